//! A host that does what tests want: by its first argument it takes its channel or is `deaf`; then every `Cancel` is
//! answered, and the attempt of a `Close` says what is to go wrong.

use millstream_proto::message::{FromHost, MetricSample, MetricValue, ToHost};
use millstream_taskmanager::channel::HostChannel;
use nix::sys::signal::{Signal, raise};
use std::process::{Command, Stdio};
use std::time::Duration;

fn main() {
    println!("pid {}", std::process::id());
    if std::env::args().nth(1).as_deref() == Some("deaf") {
        bear_child();
        endless();
    }
    let (channel, start) = HostChannel::from_environment()
        .expect("the channel is sound")
        .expect("a task manager started this");
    assert!(HostChannel::from_environment().is_err(), "it is taken once");
    println!("name {}", start.graph.name);
    let data_address = (channel.data_bind(), 4242).into();
    channel.send(&FromHost::Ready { data_address }).unwrap();
    for message in channel.receiver() {
        match message {
            ToHost::Cancel { attempt, .. } => {
                channel.send(&FromHost::Deployed { attempt }).unwrap()
            }
            ToHost::Report => {
                let (operator, name) = ("map".to_owned(), "records_in".to_owned());
                let value = MetricValue::Count(11);
                let sample = MetricSample { operator, name, subtask: 2, value };
                channel.send(&FromHost::Metrics(vec![sample])).unwrap();
            }
            ToHost::Finish => {
                channel
                    .send(&FromHost::Results(Ok(vec![("n".to_owned(), vec![vec![1]])])))
                    .unwrap();
                assert!(channel.flush(Duration::from_secs(10)));
                return;
            }
            ToHost::Prepare { .. } => surroundings(),
            ToHost::Close { attempt, .. } => misfortune(attempt),
            other => panic!("{other:?}"),
        }
    }
}

fn misfortune(number: u32) {
    match number {
        1 => {
            eprintln!("about to abort");
            std::process::abort()
        }
        2 => {
            eprintln!("about to exit");
            std::process::exit(3)
        }
        3 => raise(Signal::SIGKILL).unwrap(),
        4 => endless(),
        5 => {
            let mut hog = Vec::new();
            loop {
                hog.push(vec![1u8; 16 << 20]);
            }
        }
        6 => bear_child(),
        _ => panic!("a misfortune of number {number}"),
    }
}

/// A process of the host's group that would live for long.
#[allow(clippy::zombie_processes, reason = "that somebody else ends it is what is tested")]
fn bear_child() {
    let mut command = Command::new("sleep");
    let child = command.arg("100000").stdin(Stdio::null()).spawn().unwrap();
    println!("child {}", child.id());
}

fn endless() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

/// Prints what the process was given.
fn surroundings() {
    for (name, value) in std::env::vars() {
        println!("variable {name}={value}");
    }
    for argument in std::env::args().skip(1) {
        println!("argument {argument}");
    }
    println!("folder {}", std::env::current_dir().unwrap().display());
    // 0 to 2, the channel's two directions, and the one that lists them.
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
    println!("descriptors {descriptors}");
    // A child inherits the variable and not the channel.
    let child = Command::new(std::env::current_exe().unwrap()).arg("child").output().unwrap();
    println!("as a child: {}", String::from_utf8_lossy(&child.stderr).replace('\n', " "));
    println!("end");
}
