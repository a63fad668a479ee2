//! What a file's bytes have to add up to.

use crate::Error;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;

/// A file's digest as a hub states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// Of large files: SHA-256 of the content, in lower-case hexadecimal.
    Sha256(String),
    /// Of small files, which Git keeps itself: its SHA-1 of a header and the content.
    Git(String),
}

impl Digest {
    /// `None` when it is not as many hexadecimal digits as it has to be.
    pub fn sha256(text: &str) -> Option<Digest> {
        is_hex(text, 64).then(|| Digest::Sha256(text.into()))
    }

    /// The same for an object of Git.
    pub fn git(text: &str) -> Option<Digest> {
        is_hex(text, 40).then(|| Digest::Git(text.into()))
    }

    /// The digits, which are also the name of the file's blob in the shared cache.
    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::Git(hex) => hex,
        }
    }

    /// The digest of the same kind of these bytes.
    pub fn of_bytes(&self, bytes: &[u8]) -> Digest {
        let mut summer = Summer::new(Some(self), bytes.len() as u64);
        summer.update(bytes);
        summer.finish()
    }
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

enum Summer {
    Sha256(Sha256),
    Git(Sha1),
}

impl Summer {
    fn new(like: Option<&Digest>, size: u64) -> Summer {
        match like {
            Some(Digest::Git(_)) => Summer::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
            _ => Summer::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Summer::Sha256(sum) => sum.update(bytes),
            Summer::Git(sum) => sum.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Summer::Sha256(sum) => Digest::Sha256(hex(&sum.finalize())),
            Summer::Git(sum) => Digest::Git(hex(&sum.finalize())),
        }
    }
}

/// The digest of a file, of the same kind as `like` (SHA-256 when there is none). `progress` gets the bytes of each step.
pub(crate) fn of_file(
    path: &Path,
    like: Option<&Digest>,
    progress: &mut dyn FnMut(u64),
) -> Result<Digest, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
    let size = file.metadata().map_err(Error::io("read", path))?.len();
    let mut summer = Summer::new(like, size);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(summer.finish()),
            n => {
                summer.update(&buffer[..n]);
                progress(n as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hello = "ce013625030ba8dba906f756967f9e9ca394464a"; // git hash-object of "hello\n"
        for (digest, bytes) in [(Digest::sha256(abc), &b"abc"[..]), (Digest::git(hello), b"hello\n")] {
            let digest = digest.unwrap();
            assert_eq!(digest.of_bytes(bytes), digest);
            assert_ne!(digest.of_bytes(b"other"), digest);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            assert_eq!(of_file(file.path(), Some(&digest), &mut |_| {}).unwrap(), digest);
        }
        assert!(Digest::sha256(&abc[1..]).is_none() && Digest::sha256(&abc.to_uppercase()).is_none());
        assert!(Digest::git("../../../../../../../../etc/passwd/xxxxxx").is_none());
    }
}
