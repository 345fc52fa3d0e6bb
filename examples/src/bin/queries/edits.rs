//! O7: edits of each Wikipedia in five minutes, with the number of different users.
//!
//! Some records carry a wrong day. They are filtered out *before* timestamps are assigned: a single one from
//! the future would push the watermark there, and all others would be late.

use crate::run::Run;
use millstream::prelude::*;
use millstream_examples::records::Edit;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt::Write;

pub(crate) const RESULT: &str = "O7_wiki_channel_tumbling_5m";

/// What the edits of a window amount to.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Activity {
    n_edits: u64,
    added: i64,
    deleted: i64,
    users: HashSet<Text>,
}

#[derive(Clone)]
struct Activities;

impl Aggregate<Edit> for Activities {
    type Acc = Activity;
    /// Edits, characters added, characters deleted, users.
    type Out = (u64, i64, i64, usize);

    fn create(&self) -> Activity {
        Activity::default()
    }

    fn add(&self, activity: &mut Activity, edit: Edit) {
        activity.n_edits += 1;
        activity.added += edit.added;
        activity.deleted += edit.deleted;
        activity.users.insert(edit.user);
    }

    fn merge(&self, activity: &mut Activity, other: &Activity) {
        activity.n_edits += other.n_edits;
        activity.added += other.added;
        activity.deleted += other.deleted;
        activity.users.extend(other.users.iter().cloned());
    }

    fn result(&self, activity: &Activity) -> Self::Out {
        (activity.n_edits, activity.added, activity.deleted, activity.users.len())
    }
}

pub(crate) fn build(run: &Run) {
    let activity = run
        .events(Watermarks::none())
        .filter(|edit: &Edit| edit.time.starts_with("2015-09-12"))
        .parallelism(1)
        .watermarks(Watermarks::monotonous().on(|edit: &Edit| edit.ts))
        .uid("times")
        .parallelism(1)
        .key_by_ref(|edit| &edit.channel)
        .window(Tumbling::of(mins(5)))
        .aggregate_with(Activities, |channel, activity, ctx, out| {
            out.emit((channel.clone(), ctx.window().start, *activity));
            Ok(())
        })
        .uid("activity");
    run.write(activity, RESULT, |(channel, start, (n, added, deleted, n_users)), out| {
        write!(out, "{channel},{start},{n},{added},{deleted},{n_users}")
    });
}
