//! Weights and adapter files: round trips, and errors that name what is broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use san_core::adapters::file::{self as adapter_file, AdapterHeader};
use san_core::io::safetensors::{TensorFile, TensorReader, write_tensors};
use san_core::spec::init::Init;
use san_core::spec::trainable::{Group, TrainableSpec};
use san_core::{Error, ModelSpec, Trainables, Weights};
use tch::{Device, Kind, Tensor};

fn model_spec() -> ModelSpec {
    let mut model_spec = ModelSpec::new("test", "head", 4);
    model_spec.norm("norm", 4);
    model_spec
}

fn named(pairs: &[(&str, &[i64])]) -> BTreeMap<String, Tensor> {
    let one = |(name, shape): &(&str, &[i64])| {
        ((*name).to_owned(), Tensor::randn(*shape, (Kind::Float, Device::Cpu)))
    };
    pairs.iter().map(one).collect()
}

#[test]
fn weights_round_trip_exactly_in_f32_and_rounded_in_f16() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = named(&[("a", &[3, 2]), ("b", &[5])]);
    for (kind, tolerance) in [(Kind::Float, 0.0), (Kind::Half, 2e-3)] {
        let path = folder.path().join("weights.safetensors");
        let pairs = || tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let size = write_tensors(&path, pairs(), ("config", "{}".into()), kind).unwrap();
        assert_eq!(size, std::fs::metadata(&path).unwrap().len());
        let read = TensorFile::read(&path).unwrap();
        assert_eq!(read.metadata["config"], "{}");
        for (name, tensor) in &tensors {
            let difference = (tensor - &read.tensors[name]).abs().max();
            assert!(f64::try_from(difference).unwrap() <= tolerance, "{name} as {kind:?}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_file_has_the_bytes_that_the_library_would_write_and_bf16_stays_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.safetensors");
    let mut tensors = named(&[("b", &[3, 2]), ("a", &[5]), ("c", &[2, 1, 3]), ("empty", &[0])]);
    let narrow = tensors["c"].to_kind(Kind::BFloat16);
    tensors.insert("c".into(), narrow.shallow_clone());
    let pairs = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_tensors(&path, pairs, ("k", "v".into()), Kind::Float).unwrap();

    let stored: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values: Vec<f32> = Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).unwrap();
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            // The upper half of an f32 is its bf16, if that is exact.
            let upper = |value: &f32| [value.to_le_bytes()[2], value.to_le_bytes()[3]];
            match tensor.kind() {
                Kind::BFloat16 => (&**name, Dtype::BF16, shape, values.iter().flat_map(upper).collect()),
                _ => (
                    &**name,
                    Dtype::F32,
                    shape,
                    values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                ),
            }
        })
        .collect();
    let views = stored
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let metadata = HashMap::from([("k".to_owned(), "v".to_owned())]);
    let expected = safetensors::serialize(views, Some(metadata)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), expected);

    let mut reader = TensorReader::open(&path).unwrap();
    assert_eq!((reader.metadata("k"), reader.metadata("x")), (Some("v"), None));
    for (name, tensor) in &tensors {
        let read = reader.tensor(name).unwrap().unwrap();
        assert_eq!((read.kind(), &read), (tensor.kind(), tensor), "{name}");
    }
    assert!(reader.tensor("d").unwrap().is_none());
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_named() {
    let check =
        |pairs: &[(&str, &[i64])]| Weights::new(named(pairs)).check(&model_spec(), "file").unwrap_err();
    let missing = check(&[("norm.weight", &[4])]);
    assert!(matches!(&missing, Error::MissingTensor { name, .. } if name == "norm.bias"), "{missing}");
    let unexpected = check(&[("norm.weight", &[4]), ("norm.bias", &[4]), ("extra", &[1])]);
    assert!(matches!(&unexpected, Error::UnexpectedTensor { name, .. } if name == "extra"), "{unexpected}");
    let shape = check(&[("norm.weight", &[5]), ("norm.bias", &[4])]);
    assert_eq!(shape.to_string(), "tensor `norm.weight` in file has shape [5]; the model needs [4]");
}

#[test]
fn non_finite_weights_are_rejected_naming_file_and_tensor() {
    for (value, kind) in [
        (f64::NAN, Kind::Float),
        (f64::INFINITY, Kind::Float),
        (f64::NEG_INFINITY, Kind::BFloat16),
        (f64::NAN, Kind::Half),
    ] {
        let mut tensors = named(&[("norm.weight", &[4]), ("norm.bias", &[4])]);
        let bias = Tensor::from_slice(&[0.5, 3.0, value, -1.0]).to_kind(kind);
        tensors.insert("norm.bias".into(), bias);
        let message = Weights::new(tensors).check(&model_spec(), "some.safetensors").err();
        let message = message.map(|error| error.to_string());
        let expected = "tensor `norm.bias` in some.safetensors holds NaN or infinity";
        assert_eq!(message.as_deref(), Some(expected), "{value} as {kind:?}");
    }
}

#[test]
fn pipes_and_oversized_files_are_rejected_before_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let message = TensorFile::read(&path).unwrap_err().to_string();
    assert!(message.contains("model.safetensors: it is not a regular file"), "{message}");
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(20 << 30).unwrap();
    let message = TensorFile::read(&path).unwrap_err().to_string();
    assert!(message.contains("it has 21474836480 bytes; the limit is 17179869184"), "{message}");
    // A smaller sparse file is rejected by its header.
    std::fs::File::create(&path).unwrap().set_len(15 << 30).unwrap();
    let started = std::time::Instant::now();
    let message = TensorFile::read(&path).unwrap_err().to_string();
    assert!(message.contains("model.safetensors") && message.contains("claims to have 0 bytes"), "{message}");
    assert!(started.elapsed() < std::time::Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn a_header_length_that_looks_like_a_pickle_is_not_mistaken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors = named(&[("a", &[3])]);
    // The library pads a header with spaces to a multiple of eight bytes.
    for length in [0x280_u64, 0x380, 0x480, 0x580] {
        write_tensors(&path, [("a", &tensors["a"])], ("k", String::new()), Kind::Float).unwrap();
        let bare = u64::from_le_bytes(std::fs::read(&path).unwrap()[..8].try_into().unwrap());
        let filler = "x".repeat((length - bare) as usize);
        write_tensors(&path, [("a", &tensors["a"])], ("k", filler), Kind::Float).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[..8], length.to_le_bytes());
        let read = TensorFile::read(&path).unwrap();
        assert!(read.tensors["a"].equal(&tensors["a"]), "{length}");
    }
}

#[test]
fn pickles_and_truncated_files_are_rejected() {
    let path = Path::new("model.bin");
    for pickle in [&b"PK\x03\x04rest"[..], b"\x80\x02}q"] {
        let error = TensorFile::parse(pickle, path).unwrap_err();
        assert!(matches!(error, Error::Pickle { .. }), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let tensors = named(&[("a", &[100])]);
    write_tensors(&whole, [("a", &tensors["a"])], ("k", String::new()), Kind::Float).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    for length in [0, 4, 8, 20, bytes.len() - 1] {
        let error = TensorFile::parse(&bytes[..length], path).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error}");
    }
}

fn trainables(seed: u64) -> Trainables {
    let init = Init::Normal { mean: 0.0, deviation: 1.0 };
    let spec = |name: &str| TrainableSpec {
        name: name.into(),
        shape: vec![2, 3],
        init: init.clone(),
        group: Group::Method,
    };
    let specs = vec![spec("one"), spec("two")];
    Trainables::allocate(specs, &[seed], &Weights::default(), Device::Cpu).unwrap()
}

#[test]
fn an_adapter_round_trips_bit_for_bit_and_only_loads_on_its_own_base() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.safetensors");
    let header = AdapterHeader {
        method: "san".into(),
        options: serde_json::json!({"mode": "both"}),
        backbone: "vit_micro".into(),
        base_checksum: "abc".into(),
        classes: 2,
    };
    let written = trainables(1);
    adapter_file::write(&path, &header, &written).unwrap();
    let first = std::fs::read(&path).unwrap();
    adapter_file::write(&path, &header, &written).unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap(), "equal contents give equal bytes");
    let read = trainables(2);
    assert_eq!(adapter_file::read_into(&path, "abc", &read).unwrap(), header);
    assert!(read.values().equal(written.values()));
    let error = adapter_file::read_into(&path, "def", &trainables(2)).unwrap_err();
    assert!(error.to_string().contains("checksum abc"), "{error}");
}
