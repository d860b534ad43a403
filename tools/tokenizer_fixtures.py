"""Writes the reference token ids for crates/backbones/tests/tokenizer.rs.

Run: SAN_DATA=<folder> SAN_WEIGHTS=<folder> python tools/tokenizer_fixtures.py [SmolLM2-135M-Instruct.Q4_1.gguf] (needs
tokenizers, transformers with protobuf, sentencepiece and, for a GGUF file, gguf; made with 0.23.3, 5.24.0, 0.2.3,
0.19.0). Writes crates/backbones/tests/fixtures/tokenizer/: a small SentencePiece model and a small vocabulary of
Qwen2's kind (qwen2/), trained here on the generated language (`cargo run -p data-loaders --example mini_text`), and
ids.json: for each vocabulary the ids of some difficult texts, and the first 8 digits of the SHA-256 of the ids (32 bits
each, little-endian) of 1,000 rows, 125 from each test split, including the start token. No text of a set is written.
"""

import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import sentencepiece
from text_fixtures import SETS, training
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "crates/backbones/tests/fixtures/tokenizer"
HARD = [
    "",
    " ",
    "the cat",
    " the cat",
    "  two blanks,  and   three",
    "a line\n\n\tand a tab \n",
    "na\u00efve caf\u00e9, \u65e5\u672c\u8a9e \U0001f642",
    "12345 and 3.14, it's 7up",
    "<s>inside</s>and<unk>or <|im_start|>user<|im_end|>",
    "a\u2581b",
    "                ### Response:\n                the correct answer is answer3",
]
# Texts on which a reference is not usable. SentencePiece and llama2.c do not recognise special tokens spelled out in a
# text, and llama2.c has no symbol for a space. transformers 5 does not put another space before a text that begins with
# one, while SentencePiece and the published tokenizer.json of LLaMA do, as in the training of the models.
UNLIKE = {"bpe": [1, 3, 4, 10], "bpe by sentencepiece": [8], "stories260K": [8, 9]}


def generated(count):
    command = ["cargo", "run", "--quiet", "-p", "data-loaders", "--example", "mini_text", "--", "passages", "0"]
    output = subprocess.run(command + [str(count)], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [json.loads(line).replace("\n", " ") for line in output.splitlines()]


def train(sentences):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_text("\n".join(sentences))
        sentencepiece.SentencePieceTrainer.Train(
            input=f"{folder}/text", model_prefix=f"{folder}/m", model_type="bpe", vocab_size=700, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, num_threads=1,
            allow_whitespace_only_pieces=True, minloglevel=2, hard_vocab_limit=False,
        )
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "bpe.model").write_bytes(Path(folder, "m.model").read_bytes())


def train_qwen2(sentences):
    """A vocabulary of 320 tokens with the rules of Qwen2's: NFC, its pattern of words, bytes."""
    small = Qwen2Tokenizer().train_new_from_iterator(sentences, vocab_size=320, show_progress=False)
    small.save_pretrained(FOLDER / "qwen2")


def qwen2(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.__class__.__name__.startswith("Qwen2"), tokenizer
    return lambda text: tokenizer(text)["input_ids"]


def llama(path):
    """transformers' tokenizer of the SentencePiece model, with the published models' space before the text."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tokenizer.model").write_bytes(path.read_bytes())
        tokenizer = LlamaTokenizer.from_pretrained(folder, legacy=True, add_bos_token=True)
    return lambda text: tokenizer(text)["input_ids"]


def by_sentencepiece(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return lambda text: [model.bos_id()] + model.encode(text)


def bundled(path):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path))
    return lambda text: tokenizer(text)["input_ids"]


def stories(path):
    """llama2.c's algorithm, reimplemented: a leading space, characters, then repeated merging of the best pair."""
    data, pieces, place = path.read_bytes(), [], 4
    while place < len(data):
        score, length = struct.unpack_from("<fi", data, place)
        pieces.append((data[place + 8 : place + 8 + length].decode(), score))
        place += 8 + length
    ids = {text: index for index, (text, _) in reversed(list(enumerate(pieces))) if index >= 259}

    def encode(text):
        tokens = []
        for character in " " + text if text else "":
            tokens += [ids[character]] if character in ids else [byte + 3 for byte in character.encode()]
        while True:
            pairs = [
                (-pieces[ids[word]][1], index, ids[word])
                for index, (one, other) in enumerate(zip(tokens, tokens[1:]))
                if min(one, other) >= 259 and (word := pieces[one][0] + pieces[other][0]) in ids
            ]
            if not pairs:
                return [1] + tokens
            _, index, merged = min(pairs)
            tokens[index : index + 2] = [merged]

    return encode


def smollm(path):
    """The byte-level vocabulary of a GGUF file as transformers builds it for this family."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(token, normalized=False, special=True) for token, kind in zip(tokens, kinds) if kind == 3]
    tokenizer.add_special_tokens(control)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return lambda text: wrapped(text)["input_ids"]


def digest(ids):
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()[:8]


def main():
    sentences = generated(6000)
    train(sentences)
    train_qwen2(sentences)
    encoders = {
        "bpe": llama(FOLDER / "bpe.model"),
        "bpe by sentencepiece": by_sentencepiece(FOLDER / "bpe.model"),
        "llama_micro": bundled(ROOT / "assets/llama_micro.tokenizer.json"),
        "qwen2": qwen2(FOLDER / "qwen2"),
        "stories260K": stories(Path(os.environ["SAN_WEIGHTS"]) / "stories260K/tok512.bin"),
    }
    if len(sys.argv) > 1:
        encoders["smollm2"] = smollm(sys.argv[1])
    texts = []
    for folder in SETS.values():
        rows = json.loads((Path(os.environ["SAN_DATA"]) / "commonsense" / folder / "test.json").read_text())
        texts += [training(row) for row in rows[:125]]
    result = {"hard": HARD, "vocabularies": {}}
    for name, encode in encoders.items():
        result["vocabularies"][name] = {
            "hard": [None if number in UNLIKE.get(name, ()) else encode(text) for number, text in enumerate(HARD)],
            "rows": "".join(digest(encode(text)) for text in texts),
        }
        print(name, len(encode(texts[0])))
    (FOLDER / "ids.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
