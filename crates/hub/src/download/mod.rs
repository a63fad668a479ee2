//! A file's bytes, in parallel ranges that survive the process.

mod note;

pub(crate) use note::{Note, come};

use crate::net::{Asked, Client, Failure, Response};
use crate::{Error, Event, Listener};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// After so many bytes it is noted how far a part has come.
const NOTED: u64 = 256 << 10;

/// What is fetched, and how.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: String,
    pub(crate) asked: Asked,
    /// How many bytes there have to be.
    pub(crate) bytes: u64,
    /// Requests at a time.
    pub(crate) connections: usize,
    /// Bytes that one request asks for at most.
    pub(crate) part: u64,
    pub(crate) listener: Listener<'a>,
}

/// Why a part did not come.
enum Stop {
    /// The server sends only whole files.
    NoRanges,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl Download<'_> {
    /// Fetches what is missing of the file at `path`, of which `note` says what is there. Both stay when it fails, so
    /// that it can go on later.
    ///
    /// # Errors
    /// What the server or the disk says.
    pub(crate) fn fetch(&self, path: &Path, note: &Path) -> Result<(), Error> {
        match self.parts(path, note, self.part) {
            Err(Stop::NoRanges) => match self.parts(path, note, self.bytes) {
                Err(Stop::NoRanges) => {
                    let why = "the answer to a request for the file is a part of it".into();
                    Err(Error::BadAnswer { host: self.asked.repo.clone(), why })
                }
                Err(Stop::Error(error)) => Err(error),
                Ok(()) => Ok(()),
            },
            Err(Stop::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    fn parts(&self, path: &Path, note: &Path, part: u64) -> Result<(), Stop> {
        let mut note = Note::open(note, path, self.bytes, part)?;
        (self.listener)(Event::Bytes(note.come() as i64));
        let missing = note.missing();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (note, first) = (Mutex::new(&mut note), Mutex::new(None));
        let redirected = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.connections.clamp(1, missing.len().max(1)) {
                scope.spawn(|| {
                    while let Some(&part) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        if let Err(error) = self.part(part, path, &note, &redirected, &stop) {
                            stop.store(true, Ordering::Relaxed);
                            first.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                        }
                    }
                });
            }
        });
        let failed = first.into_inner().unwrap_or_else(|e| e.into_inner());
        if matches!(failed, Some(Stop::NoRanges)) {
            let note = note.into_inner().unwrap_or_else(|e| e.into_inner());
            (self.listener)(Event::Bytes(-(note.come() as i64)));
        }
        failed.map_or(Ok(()), Err)
    }

    /// One part, in as many requests as it takes; every byte that comes makes patience new.
    fn part(
        &self,
        part: usize,
        path: &Path,
        note: &Mutex<&mut Note>,
        redirected: &Mutex<Option<String>>,
        stop: &AtomicBool,
    ) -> Result<(), Stop> {
        let lock = || note.lock().unwrap_or_else(|e| e.into_inner());
        let mut file = File::options().write(true).open(path).map_err(Error::io("write", path))?;
        let mut failed = 0;
        while !stop.load(Ordering::Relaxed) {
            let (from, to, whole) = {
                let note = lock();
                let (from, to) = note.range(part);
                (from, to, note.parts() == 1)
            };
            if from == to {
                return Ok(());
            }
            let result = self.request(from, to, redirected).and_then(|response| {
                let start = match (response.status, whole) {
                    (206, _) => from,
                    (_, true) => 0,
                    (_, false) => return Ok(None),
                };
                if start != from {
                    (self.listener)(Event::Bytes(-(from as i64)));
                    lock().restart(part)?;
                }
                self.copy(response, &mut file, path, start..to, &|come| lock().set(part, come), stop)
                    .map(Some)
            });
            let before = from;
            match result {
                Ok(Some(())) => {}
                Ok(None) => return Err(Stop::NoRanges),
                Err(failure) => {
                    failed = if lock().range(part).0 > before { 1 } else { failed + 1 };
                    let (error, wait) = self.client.retry.wait(failure, failed)?;
                    (self.listener)(Event::Retry { why: &error, wait });
                    pause(wait, stop);
                }
            }
        }
        Ok(())
    }

    /// Asks for bytes. Where the hub sent us to before is asked at once; if that is no longer good, the hub is asked anew.
    fn request(&self, from: u64, to: u64, redirected: &Mutex<Option<String>>) -> Result<Response, Failure> {
        let lock = || redirected.lock().unwrap_or_else(|e| e.into_inner());
        let known = lock().clone();
        let range = Some((from, to - 1));
        let response = match known {
            Some(url) => match self.client.get(&url, range, &self.asked) {
                Err(Failure::Final(_)) => {
                    *lock() = None;
                    self.client.get(&self.url, range, &self.asked)?
                }
                other => other?,
            },
            None => self.client.get(&self.url, range, &self.asked)?,
        };
        *lock() = Some(response.url.clone());
        Ok(response)
    }

    /// Writes an answer into its place of the file.
    fn copy(
        &self,
        response: Response,
        file: &mut File,
        path: &Path,
        place: std::ops::Range<u64>,
        note: &dyn Fn(u64) -> Result<(), Error>,
        stop: &AtomicBool,
    ) -> Result<(), Failure> {
        let host = crate::net::host(&response.url).unwrap_or_default();
        if response.status == 206 {
            let wanted = format!("bytes {}-{}/{}", place.start, place.end - 1, self.bytes);
            let got = response.header("Content-Range").unwrap_or_default();
            if got != wanted {
                let why = format!("{got:?} where {wanted:?} was asked for");
                return Err(Error::BadAnswer { host, why }.into());
            }
        }
        let cut = |why: String| Failure::Again {
            error: Error::Unreachable { host: host.clone(), why },
            wait: None,
        };
        file.seek(SeekFrom::Start(place.start)).map_err(Error::io("write", path))?;
        let mut reader = response.body.into_reader().take(place.end - place.start);
        let mut buffer = vec![0; 64 << 10];
        let (mut at, mut noted) = (place.start, place.start);
        let result = loop {
            if at == place.end || stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            match reader.read(&mut buffer) {
                Ok(0) => break Err(cut("the connection was cut".into())),
                Ok(n) => {
                    file.write_all(&buffer[..n]).map_err(Error::io("write", path))?;
                    at += n as u64;
                    (self.listener)(Event::Bytes(n as i64));
                    if at - noted >= NOTED {
                        note(at)?;
                        noted = at;
                    }
                }
                Err(error) => break Err(cut(error.to_string())),
            }
        };
        note(at)?;
        result
    }
}

/// Sleeps, but not on when another part has failed for good.
fn pause(wait: Duration, stop: &AtomicBool) {
    let step = Duration::from_millis(50);
    let mut left = wait;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(left.min(step));
        left = left.saturating_sub(step);
    }
}
