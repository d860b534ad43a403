//! A field of a protocol belongs to a task: written for another one it is refused by name, never read, hashed and ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use runner::config::experiment::Experiment;
use serde_json::{Value, json};

/// Two values of each field.
type Fields = BTreeMap<&'static str, [Value; 2]>;

/// Each task with the suite that it is for and every field of its section, none with the value that is taken if it is
/// omitted, and another value for each.
fn tasks() -> Vec<(&'static str, &'static str, Fields)> {
    let image = |size: u32| json!({"image_size": size, "resize": "plain", "filter": "bilinear", "normalisation": "half"});
    let picture = |size: u32| json!({"image_size": size, "square": "stretch", "filter": "bilinear", "normalisation": "half"});
    let language =
        |tokens: u32| json!({"decoding": "greedy", "max_new_tokens": tokens, "evaluation": {"sequences": 4}});
    let examples =
        |length: u32| json!({"max_length": length, "train_on_inputs": false, "keep_answer": false});
    vec![
        (
            "classification",
            "vtab",
            BTreeMap::from([
                ("image", [image(32), image(48)]),
                ("warmup_epochs", [json!(1), json!(2)]),
                ("drop_path", [json!(0.1), json!(0.2)]),
                ("schedule", [json!({"floor": 1e-5}), json!({"floor": 1e-6})]),
                ("test_selected", [json!(true), json!({"every": 2})]),
                ("part_accuracies", [json!({"set": "svhn", "seed": 0}), json!({"set": "svhn", "seed": 1})]),
                ("augmentation", [json!({"flip": 0.5}), json!({"flip": 0.25})]),
            ]),
        ),
        (
            "instruction_following",
            "commonsense",
            BTreeMap::from([
                ("examples", [examples(64), examples(128)]),
                ("warmup_steps", [json!(1), json!(2)]),
                ("language", [language(3), language(4)]),
            ]),
        ),
        (
            "visual_question_answering",
            "vl",
            BTreeMap::from([
                ("picture", [picture(32), picture(48)]),
                ("template", [json!("bare"), json!("v1")]),
                ("max_length", [json!(160), json!(200)]),
                ("projector", [json!({"learning_rate": 0.1}), json!({"learning_rate": 0.2})]),
                ("warmup_ratio", [json!(0.03), json!(0.1)]),
                ("questions_per_sequence", [json!(2), json!(3)]),
                ("language", [language(3), language(4)]),
            ]),
        ),
    ]
}

/// An experiment with that section of its protocol: the protocol as it was read, or why it was refused.
fn read(task: &str, suite: &str, section: &BTreeMap<&str, Value>) -> Result<Value, String> {
    let experiment = json!({"name": "fields", "suite": suite, "profiles": {"embedded": {
        "data": {"synthetic": {"train": 8, "val": 4, "test": 4}},
        "sets": ["some"], "backbones": ["some"],
        "methods": [{"method": "san", "learning_rate": 0.1}],
        "seeds": [0],
        "protocol": {"epochs": 4, "batch_size": 4, task: section},
    }}});
    let experiment = Experiment::parse(experiment.to_string().as_bytes())?;
    Ok(serde_json::to_value(&experiment.profiles["embedded"].protocol).unwrap())
}

fn section(fields: &Fields) -> BTreeMap<&'static str, Value> {
    fields.iter().map(|(name, values)| (*name, values[0].clone())).collect()
}

#[test]
fn every_field_of_a_task_is_in_this_test() {
    for (task, suite, fields) in tasks() {
        let mut section = section(&fields);
        section.insert("no_such_field", json!(1));
        let refused = read(task, suite, &section).unwrap_err();
        let expected = refused.split("expected one of").nth(1).expect(&refused);
        let names: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert_eq!(names, fields.keys().copied().collect(), "{task}: {refused}");
    }
}

#[test]
fn every_field_of_a_task_changes_the_hash_of_a_run() {
    for (task, suite, fields) in tasks() {
        let usual = read(task, suite, &section(&fields)).unwrap();
        for (name, values) in &fields {
            let mut changed = section(&fields);
            changed.insert(name, values[1].clone());
            assert_ne!(read(task, suite, &changed).unwrap(), usual, "{task}: {name}");
        }
    }
}

#[test]
fn a_field_of_another_task_is_refused_by_name() {
    for (task, suite, fields) in tasks() {
        for (other, _, others) in tasks() {
            for (name, values) in others.iter().filter(|(name, _)| !fields.contains_key(*name)) {
                let mut mixed = section(&fields);
                mixed.insert(name, values[0].clone());
                let refused = read(task, suite, &mixed).unwrap_err();
                let named = format!("unknown field `{name}`");
                assert!(refused.contains(&named), "{name} of {other} in {task}: {refused}");
            }
        }
    }
}

#[test]
fn a_protocol_has_one_task() {
    let [(one, suite, fields), (other, _, others), _] = tasks().try_into().unwrap();
    let both = json!({"epochs": 4, "batch_size": 4, one: section(&fields), other: section(&others)});
    let protocol: runner::tasks::Protocol = serde_json::from_value(both).unwrap();
    let refused = protocol.check().unwrap_err();
    assert!(refused.contains(one) && refused.contains(other), "{refused}");
    let refused = read("epochs", suite, &BTreeMap::new()).unwrap_err();
    assert!(!refused.is_empty());
}
