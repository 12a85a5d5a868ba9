"""Writes the trained model as GGUF files: F16, Q8_0 and Q4_0."""

import argparse
from pathlib import Path

import gguf
import numpy
import torch

import tokenizer as tokens
from model import Config, Model

# Renders text as Gemma 3's own template does: the system text stands at the head of the first user turn.
TEMPLATE = """\
{{ bos_token }}
{%- set system = messages[0]['content'] + '\\n\\n' if messages[0]['role'] == 'system' else '' -%}
{%- for message in (messages[1:] if system else messages) -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- (system if loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
"""
TYPES = {"F16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
         "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
         "Q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0)}
LAYER = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
         "norm_q": "attn_q_norm", "norm_k": "attn_k_norm", "norm_attention": "attn_norm",
         "norm_attention_out": "post_attention_norm", "norm_feed_forward": "ffn_norm", "norm_feed_forward_out": "post_ffw_norm"}


def load(folder):
    """The trained model, and the tokenizer, of a training folder."""
    state = torch.load(folder / "checkpoint.pt", weights_only=False)
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    return model.eval(), tokens.Tokenizer(folder / "tokenizer.model")


def tensors(model):
    """Names as llama.cpp has them. Its norm weights are ours plus one."""
    named = {"token_embd.weight": model.embedding.weight, "output_norm.weight": model.norm + 1}
    for index, layer in enumerate(model.layers):
        for ours, theirs in LAYER.items():
            value = getattr(layer, ours)
            named[f"blk.{index}.{theirs}.weight"] = value + 1 if ours.startswith("norm") else value.weight
    return {name: value.detach().numpy().astype(numpy.float32) for name, value in named.items()}


def write(path, model, tokenizer, kind):
    quantization, file_type = TYPES[kind]
    config = model.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_name("kvllama default")
    writer.add_license("MIT")
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.feed_forward)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.epsilon)
    writer.add_rope_freq_base(config.theta_global)
    writer.add_float32(gguf.Keys.Rope.FREQ_BASE_SWA.format(arch="gemma3"), config.theta_local)
    writer.add_sliding_window(config.window)
    writer.add_sliding_window_pattern(config.period)

    processor = tokenizer.processor
    ids = range(processor.get_piece_size())
    kinds = gguf.TokenType
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([processor.id_to_piece(i) for i in ids])
    writer.add_token_scores([processor.get_score(i) for i in ids])
    writer.add_token_types([
        kinds.UNKNOWN if processor.is_unknown(i) else kinds.CONTROL if processor.is_control(i) else kinds.BYTE if processor.is_byte(i)
        else kinds.USER_DEFINED if processor.id_to_piece(i) == "\n" else kinds.NORMAL for i in ids])
    writer.add_pad_token_id(tokens.PAD)
    writer.add_eos_token_id(tokens.EOS)
    writer.add_bos_token_id(tokens.BOS)
    writer.add_unk_token_id(tokens.UNK)
    writer.add_eot_token_id(tokens.END_OF_TURN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(TEMPLATE)

    for name, value in tensors(model).items():
        if value.ndim == 1:
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, required=True, help="the training folder")
    folder = arguments.parse_args().out
    model, tokenizer = load(folder)
    for kind in TYPES:
        path = folder / f"default-{kind}.gguf"
        write(path, model, tokenizer, kind)
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
