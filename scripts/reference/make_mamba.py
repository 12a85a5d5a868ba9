"""Writes a tiny random Mamba GGUF: a recurrent model, which kvllama must refuse (no KV cache to evict from).

usage: make_mamba.py OUT.gguf
"""
import sys

import gguf
import numpy as np

D, INNER, STATE, CONV, RANK, VOCAB = 8, 16, 4, 4, 1, 16
rng = np.random.default_rng(1)
w = gguf.GGUFWriter(sys.argv[1], "mamba")
w.add_name("tiny random mamba")
w.add_context_length(256)
w.add_embedding_length(D)
w.add_feed_forward_length(0)
w.add_head_count(0)
w.add_block_count(1)
w.add_ssm_conv_kernel(CONV)
w.add_ssm_inner_size(INNER)
w.add_ssm_state_size(STATE)
w.add_ssm_time_step_rank(RANK)
w.add_layer_norm_rms_eps(1e-5)
w.add_tokenizer_model("llama")
w.add_tokenizer_pre("default")
w.add_token_list([b"<unk>", b"<bos>", b"<eos>"] + [b"t%d" % i for i in range(VOCAB - 3)])
w.add_token_scores([0.0] * VOCAB)
w.add_token_types([2, 3, 3] + [1] * (VOCAB - 3))
w.add_bos_token_id(1)
w.add_eos_token_id(2)
shapes = {
    "token_embd.weight": (VOCAB, D),
    "output_norm.weight": (D,),
    "blk.0.attn_norm.weight": (D,),
    "blk.0.ssm_in.weight": (2 * INNER, D),
    "blk.0.ssm_conv1d.weight": (INNER, CONV),
    "blk.0.ssm_conv1d.bias": (INNER,),
    "blk.0.ssm_x.weight": (RANK + 2 * STATE, INNER),
    "blk.0.ssm_dt.weight": (INNER, RANK),
    "blk.0.ssm_dt.bias": (INNER,),
    "blk.0.ssm_a": (INNER, STATE),
    "blk.0.ssm_d": (INNER,),
    "blk.0.ssm_out.weight": (D, INNER),
}
for name, shape in shapes.items():
    w.add_tensor(name, rng.standard_normal(shape).astype(np.float32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
