//! What a job's program has printed, wherever its hosts run.
//!
//! A job has a host on each of its task managers, and each prints for itself. Where there are several, a line says
//! whose output follows, as `tail` does with several files.

use super::{connect, write_out};
use crate::args;
use crate::failure::{Outcome, ask, unexpected};
use crate::settings::Settings;
use crate::target;
use millstream::cluster::Connection;
use millstream::cluster::message::{
    ClientReply, ClientRequest, JobId, LogStream, TaskManagerId, TaskManagerRow,
};
use std::collections::HashMap;
use std::time::Duration;

/// Bytes asked for at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Time between two looks at whether there is more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn logs(settings: &Settings, logs: &args::Logs) -> Outcome {
    let connection = connect(settings)?;
    let cluster = target::cluster(&connection)?;
    let ids = cluster.jobs.iter().map(|job| (job.id, job.name.as_str()));
    let job = target::one("job", &logs.job.job, ids)?;
    let mut reader = Reader {
        connection: &connection,
        job,
        stream: if logs.err { LogStream::Err } else { LogStream::Out },
        tail: logs.tail,
        positions: HashMap::new(),
        shown: None,
    };
    let named = match &logs.task_manager {
        None => None,
        Some(text) => {
            let all = cluster.task_managers.iter().map(|tm| (tm.id, tm.hostname.as_str()));
            Some(target::one("task manager", text, all)?)
        }
    };
    reader.read(&places(job, named, &cluster.task_managers))?;
    if !logs.follow {
        return Ok(());
    }
    loop {
        let cluster = target::cluster(&connection)?;
        let state = cluster.jobs.iter().find(|overview| overview.id == job).map(|job| job.state);
        reader.read(&places(job, named, &cluster.task_managers))?;
        if state.is_none_or(|state| state.is_terminal()) {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

/// Whom to ask: the one that was named, all that the job runs on now, or whoever knows.
fn places(
    job: JobId,
    named: Option<TaskManagerId>,
    task_managers: &[TaskManagerRow],
) -> Vec<Option<TaskManagerId>> {
    if named.is_some() {
        return vec![named];
    }
    let hosts = task_managers.iter().filter(|tm| tm.jobs.contains(&job));
    let places: Vec<_> = hosts.map(|tm| Some(tm.id)).collect();
    if places.is_empty() { vec![None] } else { places }
}

struct Reader<'a> {
    connection: &'a Connection,
    job: JobId,
    stream: LogStream,
    tail: u64,
    /// Up to which byte each task manager's output has been shown.
    positions: HashMap<TaskManagerId, u64>,
    /// Whose was shown last.
    shown: Option<TaskManagerId>,
}

impl Reader<'_> {
    /// Shows what there is and was not shown.
    fn read(&mut self, places: &[Option<TaskManagerId>]) -> Outcome {
        for place in places {
            while self.read_piece(*place, places.len() > 1)? {}
        }
        Ok(())
    }

    /// Shows a piece; says whether there is more.
    fn read_piece(
        &mut self,
        place: Option<TaskManagerId>,
        is_one_of_several: bool,
    ) -> Outcome<bool> {
        let known = match place {
            Some(id) => self.positions.get(&id).copied(),
            None => self.shown.and_then(|id| self.positions.get(&id).copied()),
        };
        let (from, limit) = match (known, self.tail) {
            (Some(position), _) => (Some(position), PIECE_BYTES),
            (None, 0) => (Some(0), PIECE_BYTES),
            (None, tail) => (None, tail),
        };
        let request = ClientRequest::Log {
            job: self.job,
            task_manager: place,
            stream: self.stream,
            from,
            limit,
        };
        let (id, from, total, bytes) = match ask(self.connection, request)? {
            ClientReply::Log { task_manager, from, total, bytes } => {
                (task_manager, from, total, bytes)
            }
            other => return Err(unexpected(&other)),
        };
        if !bytes.is_empty() {
            if is_one_of_several && self.shown != Some(id) {
                write_out(format!("==> {id} <==\n").as_bytes());
            }
            write_out(&bytes);
        }
        self.shown = Some(id);
        let position = from + bytes.len() as u64;
        self.positions.insert(id, position);
        // What a program prints faster than it can be read would never end.
        Ok(!bytes.is_empty() && position < total)
    }
}
