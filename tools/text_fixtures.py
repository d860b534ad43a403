"""Writes the reference prompts for tests/commonsense.rs: the wrappers of LLM-Adapters written out in Python.

Run: SAN_DATA=<folder> python tools/text_fixtures.py (needs the eight sets in LLM-Adapters' layout; no packages).
Writes crates/data-loaders/tests/fixtures/text/prompts.json: two complete texts of an invented row, and for the first
125 rows of each test split the first 8 digits of the SHA-256 of the training text and of the evaluation prompt. No text
of a set is written.
"""

import hashlib
import json
import os
from pathlib import Path

SETS = {
    "boolq": "boolq",
    "piqa": "piqa",
    "siqa": "social_i_qa",
    "hellaswag": "hellaswag",
    "winogrande": "winogrande",
    "arc_easy": "ARC-Easy",
    "arc_challenge": "ARC-Challenge",
    "openbookqa": "openbookqa",
}
TARGET = Path(__file__).resolve().parent.parent / "crates/data-loaders/tests/fixtures/text/prompts.json"
TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def training(row):
    lines = ["### Instruction:", row["instruction"], "", "### Response:", row["output"]]
    return TASK + "  \n\n" + "\n".join(" " * 16 + line for line in lines)


def evaluation(row):
    lines = [TASK + " ", "", " " * 16 + "### Instruction:", " " * 16 + row["instruction"], ""]
    return "\n".join(lines + [" " * 16 + "### Response:", " " * 16])


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def main():
    question = "is ice cold?"
    row = {
        "instruction": f"Please answer the following question with true or false, question: {question}\n\n"
        "Answer format: true/false",
        "output": "the correct answer is true",
    }
    result = {"row": row, "training": training(row), "evaluation": evaluation(row), "sets": {}}
    for name, folder in SETS.items():
        path = Path(os.environ["SAN_DATA"]) / "commonsense" / folder / "test.json"
        rows = json.loads(path.read_text())
        result["sets"][name] = {
            "rows": len(rows),
            "training": [digest(training(row)) for row in rows[:125]],
            "evaluation": [digest(evaluation(row)) for row in rows[:125]],
        }
    TARGET.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
