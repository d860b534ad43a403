"""Writes difficult answers with their reference scores for the vision-and-language sets.

    pip download --no-deps lmms-eval==0.7.3 && unzip it into a folder, next to a checkout of GT-Vision-Lab/VQA at a013f00
    python tools/vqa_fixtures.py FOLDER      # rewrites crates/data-loaders/tests/fixtures/vl/hard_answers.json

The expected values come from independent code, which is not copied here: the VQA evaluation of Antol et al. in its own
repository (PythonEvaluationTools/vqaEvaluation/vqaEval.py, Python 2, converted when it is loaded; the copies in other
packages are from before its correction of 2021) and the answer processor of EvalAI and TextVQA as distributed in lmms-eval
(lmms_eval/tasks/_task_utils/vqa_eval_metric.py). The rules of POPE and ScienceQA have no package of their own; they are
written out below from the published description. Needs Python 3.11 or older, which has lib2to3.
"""

import contextlib
import importlib.util
import io
import json
import pathlib
import re
import sys

FIXTURE = pathlib.Path(__file__).parent.parent / "crates/data-loaders/tests/fixtures/vl/hard_answers.json"

TEXTS = """
dont|Don't|couldntve|couldn'tve|couldnt've|somebody'd|somebodyd've|someones hat|Im here|I'm here|Id've|itd've|itll|twas
|'ow'sat|ows'at|yall'd've|y'alld've|shes|she's|well|we'll|hell|lets|let's|o'clock|5 oclock|maam|none|zero|one|Two dogs
|ten|eleven|twenty one|one-two|a|an|the|The|A man and a woman|an apple a day|the the|theatre|ant|1,000|1,000,000|1, 000
|10,5 kg, about|x, y|x,y|3.5|3.5.|.5|5.|5. 6|U.S.A.|u.s. army|e.g. this|...|1.2.3.|left-handed|left -handed|t-shirt
|black/white|black / white|[sic]|"quoted"|(yes)|( yes )|a+b|a + b|1+1=2|under_score|<b>|a > b|@home|`tick`|what?|what ?
|wow!|wow !|semi;colon|semi ; colon|back\\slash|{brace}|10:30|it's 10:30|dog's|the dog's bone|dogs'|James's|yes.|Yes, it
is|no, it is not|  spaces   inside  |tab\tinside|line\nbreak|\n yes \n|UPPER Case|\u00e9t\u00e9|caf\u00e9-bar|\u4e8c|1\u00bd|don\u2019t|$5.00|50%|#1
|one,two|3 ft., tall|no-one|No one|none.|NONE|cant|can't|cannot|Aren't|arent.|wont|won't.|what's|whats|whos|who's
|mightnt've|mustve|needn't|notve|oughtnt|shouldn'tve|therere|theyd've|wed|weve|weren't|whyre|wouldve|youll
|"""

PEOPLE = [
    ["2"] * 3 + ["3"] * 7,
    ["2"] * 10,
    ["two"] * 10,
    ["yes"] * 9 + ["no"],
    ["black and white"] * 4 + ["black/white"] * 3 + ["black, white"] * 2 + ["gray"],
    ["don't"] * 2 + ["dont"] * 2 + ["no"] * 6,
    ["t-shirt"] * 5 + ["t shirt"] * 3 + ["shirt"] * 2,
    ["dog's"] * 6 + ["dogs"] * 4,
    ["1000"] * 3 + ["1,000"] * 7,
    ["unanswerable"] * 6 + ["unsuitable"] * 2 + ["3.5"] * 1 + ["3.5."],
    # Digits, articles and contractions of both sides are normalised only where people differ.
    ["on the table"] * 8 + ["table"] * 2,
    ["on the table"] * 10,
    ["On the table"] * 10,
    ["Two"] * 4 + ["2"] * 6,
    [" the dog "] * 5 + ["the dog"] * 5,
    ["dont"] * 10,
    ["yes\n"] * 10,
]

GIVEN = ["2", "two", "Two.", "yes", "Yes.", "no", "black/white", "black and white", "black, white", "the dont", "don't",
         "t-shirt", "T shirt", "a shirt", "dog's", "dogs", "1,000", "1000", "unanswerable", "Unanswerable.", "3.5", "",
         "gray", "Gray", "on the table", "On the table", "on table", "table", "the dog", "dog", "dont", "yes\n"]

YES_NO = ["Yes", "No", "no", "not", "NO", "No.", "No, there is no dog", "Yes, there is", "There is not a dog.",
          "There isn't", "Nothing", "knot", "Norway", "know", "None", "no-one", "Yes. No", "I see no, dog", "a notable dog",
          "nope", "", "It is\nnot", "Yes,no", ",no", "Not"]

LETTERS = ["A", "B", "E", "F", "a", "A.", "A. an ant", "B. bee. C. sea", "A.ant", "(A)", "The answer is B.",
           "The answer is B", "The answer is B. The answer is C.", "So The answer is E!", "the answer is B.",
           "The answer is Z.", "The answer is AB", "C\n", " D ", "D) x", "", "The answer is  A."]


def main():
    folder = pathlib.Path(sys.argv[1])
    official = official_evaluation(folder)(NoQuestions, None)
    processor = load(folder, "vqa_eval_metric.py").EvalAIAnswerProcessor()
    texts = [part.encode("utf-8").decode("utf-8") for part in TEXTS.strip("\n").replace("\n", "").split("|")]
    texts += ["line\nbreak", "\n yes \n", "tab\tinside", ".a" * 40]
    fixture = {
        "vqa": [[text, vqa(official, text)] for text in texts],
        "evalai": [[text, processor(text)] for text in texts],
        "accuracy": [[given, people, accuracy(folder, given, people)] for people in PEOPLE for given in GIVEN],
        "pope": [[text, pope(text)] for text in YES_NO],
        "scienceqa": [[text, options, scienceqa(text.strip(), options)] for text in LETTERS for options in (2, 4, 5)],
        "gqa": [[text, text.rstrip(".").lower()] for text in ("Yes.", "no", "T-shirt..", "Dr. Who", "A.")],
    }
    FIXTURE.write_text(json.dumps(fixture, indent=0, ensure_ascii=True) + "\n")
    print({name: len(cases) for name, cases in fixture.items()})


class NoQuestions:
    getQuesIds = staticmethod(lambda: [])


def official_evaluation(folder):
    """The class VQAEval, converted from Python 2."""
    from lib2to3.refactor import RefactoringTool, get_fixers_from_package

    path = next(folder.rglob("vqaEval.py"))
    tool = RefactoringTool(get_fixers_from_package("lib2to3.fixes"))
    source = str(tool.refactor_string(path.read_text().expandtabs(8) + "\n", str(path)))
    module = {"__name__": "vqaEval"}
    exec(compile(source, str(path), "exec"), module)
    return module["VQAEval"]


def load(folder, name):
    path = next(folder.rglob(name))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def vqa(official, text):
    cleaned = text.replace("\n", " ").replace("\t", " ").strip()
    return official.processDigitArticle(official.processPunctuation(cleaned))


def accuracy(folder, given, people):
    """Runs the reference's complete `evaluate`, which rounds to two decimals of a percentage; here to twelve."""
    answers = [{"answer": answer, "answer_id": index} for index, answer in enumerate(people)]

    class Questions:
        qa = {1: {"answers": answers, "question_type": "", "answer_type": ""}}
        getQuesIds = staticmethod(lambda: [1])

    class Results:
        qa = {1: {"answer": given}}

    evaluation = official_evaluation(folder)(Questions, Results, n=12)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation.accuracy["overall"] / 100


def pope(text):
    """First sentence, commas removed, words split at single spaces: a "no" among them means no, anything else yes."""
    words = text[: text.index(".")] if "." in text else text
    words = words.replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def scienceqa(text, options):
    """The letter, or the letter followed by ". ", or the only `The answer is X` followed by any character."""
    letters = "ABCDE"
    said = re.findall("The answer is ([A-Z]).", text)
    if text in list(letters):
        found = text
    elif re.match("[A-E]\\. ", text):
        found = text[0]
    else:
        found = said[0] if len(said) == 1 else ""
    return found if found and found in letters[:options] else ""


if __name__ == "__main__":
    main()
