//! What a program prints, kept within bounds.
//!
//! A stream is kept in two files; when the newer is full the older goes. Positions count from the beginning of
//! the stream, whatever is left of it, so that a reader who follows it sees what is missing. A disk that is full costs
//! output and never holds up the program: what cannot be written is counted as printed all the same.

use millstream_model::{Error, Result};
use millstream_proto::message::{JobId, LogStream};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// At most so much in one answer, whatever is asked for.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Jobs whose output is kept.
const MAX_JOBS: usize = 100;

/// The output of the jobs that ran here.
pub struct Logs {
    dir: PathBuf,
    limit_bytes: u64,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    logs: BTreeMap<JobId, Arc<JobLog>>,
    /// The oldest first.
    order: VecDeque<JobId>,
}

/// The output of one job, over all its hosts here.
pub struct JobLog {
    out: Mutex<Stream>,
    err: Mutex<Stream>,
}

impl Logs {
    /// In a folder that belongs to this process; of each stream about `limit_bytes` are kept.
    pub fn new(dir: PathBuf, limit_bytes: u64) -> Self {
        Logs { dir, limit_bytes, jobs: Mutex::default() }
    }

    /// Where the output of a job's next host goes.
    ///
    /// # Errors
    /// If its folder cannot be made.
    pub fn of(&self, job: JobId) -> Result<Arc<JobLog>> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = jobs.logs.get(&job) {
            return Ok(Arc::clone(log));
        }
        if jobs.order.len() >= MAX_JOBS
            && let Some(at) = jobs.order.iter().position(|old| {
                // Nobody writes to it.
                jobs.logs.get(old).is_some_and(|log| Arc::strong_count(log) == 1)
            })
            && let Some(old) = jobs.order.remove(at)
        {
            jobs.logs.remove(&old);
            if let Err(error) = std::fs::remove_dir_all(self.dir.join(old.to_string())) {
                tracing::warn!(job = %old, %error, "the output of an old job could not be deleted");
            }
        }
        let dir = self.dir.join(job.to_string());
        std::fs::create_dir_all(&dir)?;
        let stream = |name| Mutex::new(Stream::new(&dir, name, self.limit_bytes));
        let log = Arc::new(JobLog { out: stream("out"), err: stream("err") });
        jobs.logs.insert(job, Arc::clone(&log));
        jobs.order.push_back(job);
        Ok(log)
    }

    /// What is there from a position on, or the last `limit` bytes: the position of the first byte, how many were
    /// printed in all, and the bytes.
    ///
    /// # Errors
    /// If no host of the job ran here, or its output cannot be read.
    pub fn read(
        &self,
        job: JobId,
        stream: LogStream,
        from: Option<u64>,
        limit: u64,
    ) -> Result<(u64, u64, Vec<u8>)> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let log = jobs.logs.get(&job).map(Arc::clone);
        drop(jobs);
        let log = log.ok_or_else(|| {
            Error::user(format!("no program of job {job} has run on this task manager"))
        })?;
        log.stream(stream).read(from, limit.min(MAX_ANSWER_BYTES))
    }
}

impl JobLog {
    /// Adds what was printed.
    pub fn append(&self, stream: LogStream, bytes: &[u8]) {
        self.stream(stream).append(bytes);
    }

    /// The last lines that were printed to standard error from a position on.
    pub fn last_words(&self, from: u64) -> String {
        const N_BYTES: u64 = 4096;
        const N_LINES: usize = 20;
        let stream = self.stream(LogStream::Err);
        let start = from.max(stream.total.saturating_sub(N_BYTES));
        let Ok((_, _, bytes)) = stream.read(Some(start), N_BYTES) else { return String::new() };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(N_LINES)..].join("\n").trim().to_owned()
    }

    /// How much was printed to standard error.
    pub fn position(&self) -> u64 {
        self.stream(LogStream::Err).total
    }

    fn stream(&self, stream: LogStream) -> MutexGuard<'_, Stream> {
        let stream = match stream {
            LogStream::Out => &self.out,
            LogStream::Err => &self.err,
        };
        stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Stream {
    /// Of the two files, without their number.
    path: PathBuf,
    limit_bytes: u64,
    /// The older first.
    files: VecDeque<Kept>,
    total: u64,
    n_files: u64,
    has_failed: bool,
}

struct Kept {
    path: PathBuf,
    file: File,
    /// The position of its first byte.
    from: u64,
    bytes: u64,
}

impl Stream {
    fn new(dir: &Path, name: &str, limit_bytes: u64) -> Self {
        Stream {
            path: dir.join(name),
            limit_bytes: limit_bytes.max(2),
            files: VecDeque::new(),
            total: 0,
            n_files: 0,
            has_failed: false,
        }
    }

    fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = self.room().and_then(|(kept, room)| {
                let (now, later) = bytes.split_at(bytes.len().min(room));
                kept.file.write_all(now)?;
                kept.bytes += now.len() as u64;
                Ok((now.len(), later))
            });
            match written {
                Ok((n, later)) => {
                    self.total += n as u64;
                    bytes = later;
                    self.has_failed = false;
                }
                Err(error) => {
                    // The next one begins behind the gap, in a file of its own.
                    self.total += bytes.len() as u64;
                    self.files.clear();
                    if !std::mem::replace(&mut self.has_failed, true) {
                        let path = self.path.display();
                        tracing::warn!(%path, %error, "what a program prints cannot be kept");
                    }
                    return;
                }
            }
        }
    }

    /// The file to write to, and how much it takes.
    fn room(&mut self) -> std::io::Result<(&mut Kept, usize)> {
        let half = self.limit_bytes / 2;
        if self.files.back().is_none_or(|kept| kept.bytes >= half) {
            if self.files.len() == 2
                && let Some(old) = self.files.pop_front()
            {
                std::fs::remove_file(old.path)?;
            }
            self.n_files += 1;
            let path = self.path.with_extension(self.n_files.to_string());
            let file = File::create(&path)?;
            self.files.push_back(Kept { path, file, from: self.total, bytes: 0 });
        }
        let kept = self.files.back_mut().ok_or(std::io::ErrorKind::NotFound)?;
        let room = usize::try_from(half - kept.bytes).unwrap_or(usize::MAX);
        Ok((kept, room))
    }

    fn read(&self, from: Option<u64>, limit: u64) -> Result<(u64, u64, Vec<u8>)> {
        let first = self.files.front().map_or(self.total, |kept| kept.from);
        let from = from.unwrap_or(self.total.saturating_sub(limit)).clamp(first, self.total);
        let mut bytes = Vec::new();
        for kept in &self.files {
            let at = from + bytes.len() as u64;
            if at < kept.from || at >= kept.from + kept.bytes || bytes.len() as u64 >= limit {
                continue;
            }
            // Of its own, so that the writer's position is not moved.
            let mut file = File::open(&kept.path)?;
            file.seek(SeekFrom::Start(at - kept.from))?;
            file.take(limit - bytes.len() as u64).read_to_end(&mut bytes)?;
        }
        Ok((from, self.total, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const JOB: JobId = JobId(7);

    fn logs(limit_bytes: u64) -> (TempDir, Logs) {
        let dir = TempDir::new().unwrap();
        let logs = Logs::new(dir.path().to_owned(), limit_bytes);
        (dir, logs)
    }

    fn read(logs: &Logs, from: Option<u64>, limit: u64) -> (u64, u64, String) {
        let (from, total, bytes) = logs.read(JOB, LogStream::Out, from, limit).unwrap();
        (from, total, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn output_is_read_by_position_and_from_the_end() {
        let (_dir, logs) = logs(1000);
        let log = logs.of(JOB).unwrap();
        log.append(LogStream::Out, b"one\n");
        log.append(LogStream::Out, b"two\n");
        log.append(LogStream::Err, b"bad\nworse\n");
        assert_eq!(read(&logs, None, 3), (5, 8, "wo\n".to_owned()));
        assert_eq!(read(&logs, Some(0), 6), (0, 8, "one\ntw".to_owned()));
        assert_eq!(read(&logs, Some(8), 6), (8, 8, String::new()));
        assert_eq!(read(&logs, Some(99), 6), (8, 8, String::new()));
        assert_eq!(log.last_words(0), "bad\nworse");
        assert_eq!(log.last_words(4), "worse");
        let other = logs.read(JobId(8), LogStream::Out, None, 9).unwrap_err().to_string();
        assert!(other.contains("has run on this task manager"), "{other}");
    }

    #[test]
    fn only_the_newest_is_kept() {
        let (dir, logs) = logs(20);
        let log = logs.of(JOB).unwrap();
        for n in 0..10 {
            log.append(LogStream::Out, format!("line {n}\n").as_bytes());
        }
        // Of 70 bytes two files of 10.
        assert_eq!(read(&logs, Some(0), 1000), (50, 70, "ine 7\nline 8\nline 9\n".to_owned()));
        let n_files = std::fs::read_dir(dir.path().join(JOB.to_string())).unwrap().count();
        assert_eq!(n_files, 2);
    }

    #[test]
    fn output_that_cannot_be_kept_is_counted() {
        let (dir, logs) = logs(20);
        let log = logs.of(JOB).unwrap();
        std::fs::remove_dir_all(dir.path().join(JOB.to_string())).unwrap();
        log.append(LogStream::Out, b"lost");
        assert_eq!(read(&logs, Some(0), 10), (4, 4, String::new()));
        std::fs::create_dir_all(dir.path().join(JOB.to_string())).unwrap();
        log.append(LogStream::Out, b"kept");
        assert_eq!(read(&logs, Some(0), 10), (4, 8, "kept".to_owned()));
    }

    #[test]
    fn the_output_of_old_jobs_goes() {
        let (dir, logs) = logs(20);
        let first = logs.of(JobId(0)).unwrap();
        (1..=MAX_JOBS as u128).for_each(|job| drop(logs.of(JobId(job)).unwrap()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MAX_JOBS);
        first.append(LogStream::Out, b"still written");
        assert_eq!(logs.read(JobId(0), LogStream::Out, None, 99).unwrap().1, 13);
        assert!(logs.read(JobId(1), LogStream::Out, None, 99).is_err());
    }
}
