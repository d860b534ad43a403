"""Writes assets/llama_micro.tokenizer.json: a byte-level BPE of at most 1,024 tokens, trained on the generated
language.

Run: python tools/micro_tokenizer.py (needs tokenizers; made with 0.23.3). It calls cargo for the text: 20,000 passages
of the stream and 4,000 training rows of the eight tasks, whose wrapper yields the merges of runs of spaces. Equal text
gives an equal file.
"""

import json
import subprocess
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "assets/llama_micro.tokenizer.json"
SPECIAL = ["<unk>", "<s>", "</s>"]
VOCABULARY = 1024
# A run of spaces is one unit, so that a prompt has the same tokens with and without an answer after it; a word takes
# the single space before it; digits are separate.
PIECES = r" {2,}|\n+| ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s"


def lines(*arguments):
    command = ["cargo", "run", "--quiet", "-p", "data-loaders", "--example", "mini_text", "--", *arguments]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def main():
    texts = lines("passages", "0", "20000") + [row["training"] for row in lines("rows", "boolq", "train", "4000")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PIECES), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=20,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.save(str(TARGET), pretty=False)
    sizes = [len(tokenizer.encode(text).ids) for text in texts[20000:]]
    print(f"{tokenizer.get_vocab_size()} tokens; a training row has {sum(sizes) / len(sizes):.0f}, at most {max(sizes)}")


if __name__ == "__main__":
    main()
