use crate::gguf::*;

/// Writes the format by hand, following its specification.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn file(tensors: u64, entries: u64) -> Self {
        let mut writer = Self(b"GGUF".to_vec());
        writer.u32(3).u64(tensors).u64(entries);
        writer
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn padded(&mut self, length: usize) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(32) + length, 0);
        self
    }
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::file(1, 4);
    writer.text("general.architecture").u32(8).text("llama");
    writer.text("llama.block_count").u32(4).u32(30);
    writer.text("scores").u32(9).u32(6).u64(2).u32(1.5f32.to_bits()).u32((-2f32).to_bits());
    writer.text("tokens").u32(9).u32(8).u64(2).text("a").text("\u{120}b");
    writer.text("blk.0.attn_q.weight").u32(2).u64(64).u64(3).u32(3).u64(0);
    writer.padded(6 * 20);
    writer.0
}

fn parse(bytes: &[u8]) -> Result<Header, Error> {
    Header::parse(bytes, bytes.len() as u64, Path::new("some.gguf"))
}

#[track_caller]
fn rejected(bytes: &[u8], reason: &str) {
    let message = parse(bytes).unwrap_err().to_string();
    assert!(message.starts_with("some.gguf") && message.contains(reason), "{message}");
}

#[test]
fn metadata_and_tensor_directory_are_read() {
    let header = parse(&sample()).unwrap();
    assert_eq!(header.text("general.architecture").unwrap(), "llama");
    assert_eq!(header.unsigned("llama.block_count").unwrap(), 30);
    assert_eq!(header.numbers("scores").unwrap(), [1.5, -2.0]);
    assert_eq!(header.texts("tokens").unwrap(), ["a", "\u{120}b"]);
    let tensor = &header.tensors["blk.0.attn_q.weight"];
    assert_eq!(
        (tensor.shape.as_slice(), tensor.kind, tensor.bytes),
        ([3, 64].as_slice(), TensorType::Q4_1, 120)
    );
    assert_eq!(tensor.start + tensor.bytes, sample().len() as u64);
    assert!(header.text("llama.block_count").unwrap_err().to_string().contains("is not a string"));
}

#[test]
fn a_file_truncated_anywhere_is_rejected_by_name() {
    let whole = sample();
    for length in 0..whole.len() {
        let message = parse(&whole[..length]).unwrap_err().to_string();
        assert!(message.starts_with("some.gguf is not a usable GGUF file"), "{length}: {message}");
    }
}

#[test]
fn impossible_lengths_allocate_no_memory() {
    let mut writer = Writer::file(0, 1);
    writer.text("tokens").u32(9).u32(4).u64(u64::MAX);
    rejected(&writer.0, "its arrays claim to have 18446744073709551615 elements; the limit is 4194304");
    let mut writer = Writer::file(0, 1);
    writer.text("text").u32(8).u64(u64::MAX - 7);
    rejected(&writer.0, "claims");
    rejected(
        &Writer::file(u64::MAX, 0).0,
        "it claims to have 18446744073709551615 tensors; the limit is 65536",
    );
    rejected(&Writer::file(0, 70_000).0, "it claims to have 70000 entries");
    let mut writer = Writer::file(1, 0);
    writer.text("w").u32(2).u64(1 << 40).u64(1 << 40).u32(0).u64(0);
    rejected(&writer.0, "too large");
    let mut writer = Writer::file(1, 0);
    writer.text("w").u32(1).u64(8).u32(0).u64(u64::MAX - 31);
    rejected(writer.padded(32).0.as_slice(), "tensor `w`");
}

#[test]
fn unknown_versions_and_types_and_duplicates_are_rejected() {
    rejected(b"GGML....", "does not start");
    rejected(&[b"GGUF".as_slice(), &[1, 0, 0, 0]].concat(), "version is 1");
    rejected(&Writer::file(0, 1).text("k").u32(13).0, "type 13");
    let mut nested = Writer::file(0, 1);
    nested.text("k").u32(9);
    for _ in 0..1000 {
        nested.u32(9).u64(1);
    }
    rejected(&nested.0, "nested");
    let mut twice = Writer::file(0, 2);
    twice.text("k").u32(4).u32(1).text("k").u32(4).u32(1);
    rejected(&twice.0, "twice");
    let mut ragged = Writer::file(1, 0);
    ragged.text("w").u32(1).u64(33).u32(8).u64(0);
    rejected(&ragged.0, "not a multiple");
}

#[test]
fn oversized_arrays_are_rejected_before_they_are_read() {
    let mut writer = Writer::file(0, 3);
    for key in ["a", "b", "c"] {
        writer.text(key).u32(9).u32(0).u64(2 << 20);
        writer.0.resize(writer.0.len() + (2 << 20), 7);
    }
    rejected(&writer.0, "its arrays claim to have 6291456 elements");
}
