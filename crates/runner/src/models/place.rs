//! Where the files of a named model are: a folder of `SAN_WEIGHTS`, or any other folder, by its path.
//!
//! A name with a separator is a path (`weights/own_vit`, `./own_vit`); no name of the registry has one.

use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use backbones::Error;

/// Whether a name is the path of a folder.
pub fn is_path(name: &str) -> bool {
    name.contains(['/', MAIN_SEPARATOR])
}

/// The folder, or the file, of the model `name`.
///
/// # Errors
/// When it does not exist, or the name is not a path and `SAN_WEIGHTS`, which is `root`, is not set.
pub fn of_model(name: &str, root: Option<&Path>) -> Result<PathBuf, Error> {
    let missing = |place: String| Error::MissingWeights { backbone: name.into(), place };
    let place = if is_path(name) {
        PathBuf::from(name)
    } else {
        root.ok_or_else(|| missing("SAN_WEIGHTS, which is not set".into()))?.join(name)
    };
    if place.exists() { Ok(place) } else { Err(missing(place.display().to_string())) }
}

/// The model's name in every output: of a path, the last component.
pub fn label(name: &str) -> String {
    let last = |path: &str| {
        let path = path.trim_end_matches(['/', MAIN_SEPARATOR]);
        path.rsplit(['/', MAIN_SEPARATOR]).next().unwrap_or(path).to_owned()
    };
    name.split('+').map(last).collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_by_its_last_component() {
        assert_eq!(label("vit_micro"), "vit_micro");
        assert_eq!(label("weights/own/"), "own");
        assert_eq!(label("weights/own@random"), "own@random");
        assert_eq!(label("../towers/a+weights/b"), "a+b");
    }

    #[test]
    fn a_name_is_found_under_the_root_and_a_path_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("own")).unwrap();
        let path = root.path().join("own");
        assert_eq!(of_model("own", Some(root.path())).unwrap(), path);
        assert_eq!(of_model(&path.display().to_string(), None).unwrap(), path);
        for (name, root) in [("own", None), ("other", Some(root.path())), ("./no/such/folder", None)] {
            assert!(matches!(of_model(name, root), Err(Error::MissingWeights { .. })), "{name}");
        }
    }
}
