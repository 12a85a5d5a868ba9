"""How a Gemma 3 text model is laid out in a GGUF file: hyperparameters, tensors, vocabulary, chat template."""

from dataclasses import dataclass
from itertools import count, islice, product
from string import ascii_letters, ascii_lowercase, digits, punctuation

from gguf import GGUFWriter, RopeScalingType, TokenType

LOCAL_ROPE_BASE, GLOBAL_ROPE_BASE = 1e4, 1e6
NORM_EPSILON = 1e-6
GLOBAL_EVERY = 6  # five sliding-window layers, then a global one
PAD, EOS, BOS, UNKNOWN, START_OF_TURN, END_OF_TURN = range(6)

# Renders as Gemma 3's own template does for text: the system turn is folded into the first user turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set prefix = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set prefix = '' %}{% set turns = messages %}{% endif %}"
    "{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('the turns of user and assistant must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else turn['role']) + '\n' }}"
    "{{ (prefix if loop.first else '') + turn['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    name: str
    layers: int
    d: int
    ff: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    window: int
    context: int
    global_rope_scale: float = 1.0

    def is_global(self, layer):
        return (layer + 1) % GLOBAL_EVERY == 0

    def tensors(self):
        """(name, shape) of every tensor in file order, shapes as numpy writes them: (outputs, inputs)."""
        yield "token_embd.weight", (self.vocab, self.d)
        yield "output_norm.weight", (self.d,)
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for layer in range(self.layers):
            for name, shape in {
                "attn_norm": (self.d,),
                "attn_q": (queries, self.d),
                "attn_k": (keys, self.d),
                "attn_v": (keys, self.d),
                "attn_q_norm": (self.head_dim,),
                "attn_k_norm": (self.head_dim,),
                "attn_output": (self.d, queries),
                "post_attention_norm": (self.d,),
                "ffn_norm": (self.d,),
                "ffn_gate": (self.ff, self.d),
                "ffn_up": (self.ff, self.d),
                "ffn_down": (self.d, self.ff),
                "post_ffw_norm": (self.d,),
            }.items():
                yield f"blk.{layer}.{name}.weight", shape


def vocabulary(size):
    """Pieces and their types: Gemma's specials, all bytes, single characters, then every short word."""
    specials = {"<pad>": TokenType.CONTROL, "<eos>": TokenType.CONTROL, "<bos>": TokenType.CONTROL,
                "<unk>": TokenType.UNKNOWN, "<start_of_turn>": TokenType.CONTROL, "<end_of_turn>": TokenType.CONTROL}
    pieces = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "\n"]
    types = [*specials.values(), *[TokenType.BYTE] * 256, TokenType.USER_DEFINED]
    words = (start + "".join(letters) for length in count(1) for start in ("▁", "")
             for letters in product(ascii_lowercase, repeat=length) if start or length > 1)
    pieces += islice((piece for source in ("▁" + ascii_letters + digits + punctuation, words) for piece in source),
                     size - len(pieces))
    return pieces, types + [TokenType.NORMAL] * (size - len(types))


def open_writer(path, shape, file_type):
    """A writer that holds all metadata; the caller adds the tensors."""
    writer = GGUFWriter(path, "gemma3")
    writer.add_name(shape.name)
    writer.add_file_type(file_type)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.d)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_sliding_window(shape.window)
    writer.add_rope_freq_base(GLOBAL_ROPE_BASE)
    writer.add_float32("gemma3.rope.freq_base_swa", LOCAL_ROPE_BASE)
    if shape.global_rope_scale != 1.0:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(shape.global_rope_scale)
    pieces, types = vocabulary(shape.vocab)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(rank) for rank in range(len(pieces))])
    writer.add_token_types(types)
    writer.add_pad_token_id(PAD)
    writer.add_eos_token_id(EOS)
    writer.add_bos_token_id(BOS)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_eot_token_id(END_OF_TURN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return writer
