"""The tokenizer: a SentencePiece BPE in which every word of the world, in each of its casings, is one token."""

import random
import sys
from pathlib import Path

import sentencepiece

import prompts
import world

PAD, EOS, BOS, UNK, START_OF_TURN, END_OF_TURN = range(6)
VOCABULARY = 4096


def train(path):
    """Trains the tokenizer and writes it to `path`."""
    rng = random.Random(11)
    lines = []
    for _ in range(20000):
        sample = prompts.draw(rng, (1, 6), (0, 50))
        lines += ("".join(text for text, _ in sample.segments()) + "\n" + sample.answer()).split("\n")
        lines += ["user", "model"]
        # Every word in every casing, at the start of a line and within it.
        for word in rng.sample(world.PHRASE_WORDS, 6):
            lines += [f"{form} {form}" for form in (word, word.upper(), word.capitalize())]
    corpus = Path(path).with_suffix(".txt")
    corpus.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(Path(path).with_suffix("")), vocab_size=VOCABULARY, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
        allow_whitespace_only_pieces=True, pad_id=PAD, eos_id=EOS, bos_id=BOS, unk_id=UNK, pad_piece="<pad>", eos_piece="<eos>",
        bos_piece="<bos>", unk_piece="<unk>", control_symbols=["<start_of_turn>", "<end_of_turn>"], user_defined_symbols=["\n"],
        character_coverage=1.0, num_threads=1, input_sentence_size=200000, shuffle_input_sentence=True, minloglevel=2)
    corpus.unlink()


class Tokenizer:
    """Encodes prompts and answers; knows which segment of a prompt each token belongs to."""

    def __init__(self, path):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def prompt(self, sample):
        """Token ids of the rendered prompt, and for each the tag of its segment."""
        ids, tags = [], []

        def add(pieces, tag):
            ids.extend(pieces)
            tags.extend([tag] * len(pieces))

        add([BOS, START_OF_TURN] + self.processor.encode("user\n"), "template")
        space = ""  # a space belongs to the word that follows it
        for text, tag in sample.segments():
            text = space + text
            space = " " if text.endswith(" ") else ""
            add(self.processor.encode(text[:-1] if space else text), tag)
        add([END_OF_TURN] + self.processor.encode("\n") + [START_OF_TURN] + self.processor.encode("model\n"), "template")
        return ids, tags

    def answer(self, text):
        """Token ids of an answer, the end of the turn included."""
        return self.processor.encode(text) + [END_OF_TURN]

    def decode(self, ids):
        """The text of generated ids, up to the end of the turn."""
        return self.processor.decode(ids[:ids.index(END_OF_TURN)] if END_OF_TURN in ids else ids)


if __name__ == "__main__":
    train(sys.argv[1])
