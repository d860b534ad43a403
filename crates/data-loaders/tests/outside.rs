//! A list can only refer to images below its folder: an absolute path or `../` is rejected, even if the image exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{write_grey, write_text};
use data_loaders::vl::{Answers, SmallPart, read_conversations};
use data_loaders::{Benchmark, SmallSet};
use serde_json::{Value, json};

/// Writes a JSON file; for lists with one value per line, a single value.
fn write(root: &Path, name: &str, value: &Value) {
    write_text(root, name, &value.to_string());
}

/// How every list handles an image path: the dataset, and the error message.
fn rejections(root: &Path, image: &str) -> Vec<(&'static str, String)> {
    let turns = json!([{"from": "human", "value": "<image>\nwhat"}, {"from": "gpt", "value": "this"}]);
    write(root, "mix.json", &json!([{"image": image, "conversations": turns}]));
    let gqa = json!({"1": {"imageId": image, "question": "what", "answer": "this"}});
    write(root, "gqa/testdev_balanced_questions.json", &gqa);
    write(root, "vizwiz/test.json", &json!([{"image": image, "question": "what"}]));
    let problem = json!({"question": "what", "choices": ["a"], "answer": 0, "image": image});
    write(root, "scienceqa_img/problems.json", &json!({"1": problem}));
    write(root, "scienceqa_img/pid_splits.json", &json!({"test": ["1"]}));
    let read = json!({"data": [{"image_id": image, "ocr_tokens": []}]});
    write(root, "textvqa/TextVQA_Rosetta_OCR_v0.2_val.json", &read);
    let row = json!({"question_id": 1, "image_id": image, "question": "what", "answers": ["this"]});
    write(root, "textvqa/TextVQA_0.5.1_val.json", &json!({"data": [row]}));
    for set in ["pope", "pope_coco128"] {
        let row = json!({"question_id": 1, "image": image, "text": "what", "label": "yes"});
        write(root, &format!("{set}/coco_pope_random.json"), &row);
    }
    let statement = json!({"question_id": "1", "image": image, "text": "so", "label": "true"});
    write(root, "nlvr/test.json", &statement);

    let message = |rejection: Option<data_loaders::DataError>| rejection.map(|error| error.to_string());
    let conversation = message(read_conversations("mix", &root.join("mix.json"), root).err());
    let mut found = vec![("mix", conversation)];
    for benchmark in
        [Benchmark::Gqa, Benchmark::Vizwiz, Benchmark::ScienceqaImg, Benchmark::Textvqa, Benchmark::Pope]
    {
        found.push((benchmark.name(), message(benchmark.open(root, Answers::Server).err())));
    }
    for small in [SmallSet::PopeCoco128, SmallSet::Nlvr] {
        found.push((small.name(), message(small.open(root, SmallPart::Test).err())));
    }
    found.into_iter().map(|(set, rejection)| (set, rejection.unwrap_or_default())).collect()
}

#[test]
fn an_image_outside_the_folder_is_rejected_by_every_question_reader() {
    let outer = tempfile::tempdir().unwrap();
    // The image exists relative to every base folder that a list might use.
    for name in ["secret.png", "data/secret.png", "secret.png.jpg", "data/secret.png.jpg"] {
        write_grey(&outer.path().join(name), 10);
    }
    let root = outer.path().join("data");
    for folder in ["gqa/images", "vizwiz/test", "scienceqa_img/images/test/1", "textvqa/train_images"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for folder in ["pope/val2014", "pope_coco128/images", "nlvr"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let absolute = outer.path().join("secret.png").display().to_string();
    for image in [&absolute, "../secret.png", "../../secret.png", "a/../../../secret.png"] {
        for (set, rejection) in rejections(&root, image) {
            let expected = "points outside the folder of the data set";
            assert!(
                rejection.contains(expected) && rejection.contains("secret.png"),
                "{set} {image}: {rejection}"
            );
        }
    }
}
