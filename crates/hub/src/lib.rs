//! From a model's name to verified files on disk.
//!
//! [`ModelName`] says what can be asked for, [`Catalogue`] knows short names.
#![forbid(unsafe_code)]

mod catalogue;
mod name;
mod nearest;

pub use catalogue::{Catalogue, Release};
pub use name::{ModelName, NameError, Origin, Pick, Place, Repo, RepoPath, Revision};
pub use nearest::nearest_name;
