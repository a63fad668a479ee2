//! Tensors over several files, none larger than wished.

use crate::Error;
use std::collections::HashMap;

/// The file (from 0) of each tensor: they come in order, and a new file begins where the next one would make it larger
/// than `limit`. A tensor that is larger by itself gets a file of its own.
pub(crate) fn placed(sizes: impl Iterator<Item = u64>, limit: Option<u64>) -> Vec<usize> {
    let (mut part, mut filled) = (0, 0u64);
    let place = |size: u64| {
        if filled > 0 && limit.is_some_and(|limit| filled.saturating_add(size) > limit) {
            (part, filled) = (part + 1, 0);
        }
        filled += size;
        part
    };
    sizes.map(place).collect()
}

/// A file of a set that waits for its tensors' data.
pub(crate) trait Part {
    fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error>;
    fn finish(self) -> Result<(), Error>;
}

/// Files that are written side by side; each tensor goes to its own.
#[derive(Debug)]
pub(crate) struct Parts<P> {
    pub(crate) files: Vec<P>,
    pub(crate) places: HashMap<String, usize>,
}

impl<P: Part> Parts<P> {
    pub(crate) fn append(&mut self, name: &str, piece: &[u8]) -> Result<(), Error> {
        // A name that was not declared: every file refuses it, and says so.
        let at = self.places.get(name).copied().unwrap_or(0);
        match self.files.get_mut(at) {
            Some(file) => file.append(name, piece),
            None => Ok(()),
        }
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.files.into_iter().try_for_each(Part::finish)
    }
}

#[cfg(test)]
mod tests {
    use super::placed;

    #[test]
    fn files_begin_where_the_next_tensor_would_be_too_much() {
        let cases: [(&[u64], Option<u64>, &[usize]); 6] = [
            (&[5, 5, 5], None, &[0, 0, 0]),
            (&[5, 5, 5], Some(10), &[0, 0, 1]),
            (&[5, 6, 5], Some(10), &[0, 1, 2]),
            (&[50, 1, 1], Some(10), &[0, 1, 1]),
            (&[1, 50, 1], Some(10), &[0, 1, 2]),
            (&[], Some(10), &[]),
        ];
        for (sizes, limit, files) in cases {
            assert_eq!(placed(sizes.iter().copied(), limit), files, "{sizes:?} {limit:?}");
        }
    }
}
