//! What tells models apart without reading them.

use sampan_facade::Source;
use sampan_hub::sha256;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What Ollama's clients show beside a model's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// 64 hexadecimal digits, other ones when the model has changed: of where it is, how long it is and when it was
    /// written. Ollama's own are of its bytes, which takes as long as to read them all.
    pub(super) digest: String,
    /// When it was written; where that is not known, when the server began.
    pub(super) modified: SystemTime,
}

impl Identity {
    /// `began`: when the server did, in seconds since 1970.
    pub(super) fn of(source: &Source, began: u64) -> Identity {
        match source {
            Source::Path(path) => Identity::of_path(path, began),
            other => Identity::new(&other.to_string(), None, began),
        }
    }

    pub(super) fn of_path(path: &Path, began: u64) -> Identity {
        // What is gone is still called what it was called.
        Identity::new(&path.to_string_lossy(), std::fs::metadata(path).ok(), began)
    }

    fn new(place: &str, file: Option<std::fs::Metadata>, began: u64) -> Identity {
        let written = file.as_ref().and_then(|file| file.modified().ok());
        let modified = written.unwrap_or(UNIX_EPOCH + Duration::from_secs(began));
        let since = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let length = file.map_or(0, |file| file.len());
        let (length, time) = (length.to_le_bytes(), since.as_nanos().to_le_bytes());
        Identity { digest: sha256(&[place.as_bytes(), &[0], &length, &time].concat()), modified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_until_it_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let of = || Identity::of(&Source::Path(path.clone()), 5);
        let missing = of();
        assert_eq!(missing.modified, UNIX_EPOCH + Duration::from_secs(5));
        std::fs::write(&path, "a").unwrap();
        let (first, again) = (of(), of());
        assert_eq!(first, again);
        std::fs::write(&path, "ab").unwrap();
        let second = of();
        let all = [missing, first, second, Identity::of(&Source::Mini, 5)];
        for (at, one) in all.iter().enumerate() {
            assert_eq!((one.digest.len(), one.digest.chars().all(|c| c.is_ascii_hexdigit())), (64, true));
            assert!(all[..at].iter().all(|other| other.digest != one.digest), "{all:?}");
        }
    }
}
