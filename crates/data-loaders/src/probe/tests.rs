//! Valid inputs are accepted; no other input causes a panic.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::probe::*;

/// A mutation of valid bytes, of the kind that disks, networks and people cause.
#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Write(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    Repeat(Index, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    let some = || prop::collection::vec(any::<u8>(), 1..9);
    // Numbers that overflow sums and products.
    let edges = prop::sample::select(vec![
        vec![0xFF; 4],
        vec![0xFF; 8],
        vec![0; 4],
        vec![0, 0, 0, 0x80],
        vec![0xFF, 0xFF, 0xFF, 0x7F],
        b"-1".to_vec(),
        b"99999999999999999999".to_vec(),
        b"nan".to_vec(),
        b"../".to_vec(),
        "\u{feff}é".into(),
    ]);
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), 1_u8..).prop_map(|(at, with)| Damage::Flip(at, with)),
        (any::<Index>(), prop_oneof![some(), edges.clone()]).prop_map(|(at, with)| Damage::Write(at, with)),
        (any::<Index>(), prop_oneof![some(), edges]).prop_map(|(at, with)| Damage::Insert(at, with)),
        (any::<Index>(), 1_u8..40).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<Index>(), 1_u8..40).prop_map(|(at, count)| Damage::Repeat(at, count)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    let place = |at: &Index| at.index(bytes.len() + 1);
    let range = |at: &Index, count: u8| place(at)..(place(at) + usize::from(count)).min(bytes.len());
    match damage {
        Damage::Cut(at) => bytes.truncate(place(at)),
        Damage::Flip(at, with) => {
            let at = place(at);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with);
        }
        Damage::Write(at, with) => {
            let at = place(at);
            bytes.iter_mut().skip(at).zip(with).for_each(|(byte, with)| *byte = *with);
        }
        Damage::Insert(at, with) => drop(bytes.splice(place(at)..place(at), with.iter().copied())),
        Damage::Remove(at, count) => drop(bytes.drain(range(at, *count))),
        Damage::Repeat(at, count) => {
            let piece = bytes[range(at, *count)].to_vec();
            drop(bytes.splice(place(at)..place(at), piece));
        }
    }
}

#[test]
fn every_reader_accepts_valid_input_and_survives_empty_input() {
    let probe = Probe::new().unwrap();
    for reader in 0..probe.readers() {
        let name = probe.name(reader);
        assert!(probe.feed(reader, &probe.valid_input(reader).unwrap()).unwrap(), "{name}");
        probe.feed(reader, b"").unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(0), ..ProptestConfig::default() })]

    #[test]
    fn no_reader_panics_on_damaged_files(all in prop::collection::vec(damage(), 1..4)) {
        let probe = Probe::new().unwrap();
        for reader in 0..probe.readers() {
            let mut bytes = probe.valid_input(reader).unwrap();
            all.iter().for_each(|damage| apply(damage, &mut bytes));
            probe.feed(reader, &bytes).unwrap();
        }
    }

    #[test]
    fn no_reader_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let probe = Probe::new().unwrap();
        for reader in 0..probe.readers() {
            probe.feed(reader, &bytes).unwrap();
        }
    }

    #[test]
    fn no_reader_of_lists_panics_on_any_text(text in "([a-z0-9/.\"{}\\[\\]:,é -]{0,12}[ \t\n]?){0,20}") {
        let probe = Probe::new().unwrap();
        for reader in 0..probe.readers() {
            probe.feed(reader, text.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_list_is_read_and_an_invalid_line_is_reported(labels in prop::collection::vec(0_u32..2, 1..40), bad in any::<Index>()) {
        let probe = Probe::new().unwrap();
        let line = |(index, label)| format!("images/t{index}.png {label}");
        let mut lines: Vec<String> = labels.iter().enumerate().map(line).collect();
        let entry = DatasetEntry { folder: Some("0".into()), classes: 2, ..dataset("svhn").unwrap().clone() };
        let list = |lines: &[String]| {
            fs::write(probe.root.join("0/test.txt"), lines.join("\n")).unwrap();
            layout::list(&entry, &probe.root)
        };
        let found: Vec<u32> = list(&lines).ok().unwrap().parts[2].iter().map(|sample| sample.label).collect();
        prop_assert_eq!(&found, &labels);
        let bad = bad.index(lines.len());
        lines[bad] += "x";
        let message = list(&lines).err().unwrap().to_string();
        let place = format!("test.txt:{}: ", bad + 1);
        prop_assert!(message.contains(&place), "{}", message);
    }
}
