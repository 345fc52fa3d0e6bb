//! Asynchronous calls on a stream.
//!
//! Everything that is to be said about the calls (time limit, further attempts, order, how many at a time)
//! is said by one value, an [`AsyncCall`]; what comes back is a stream like any other, so the usual
//! settings follow it.

use super::DataStream;
use crate::graph::{OpContext, Outs};
use millstream_model::Data;
use millstream_runtime::chain::Push;
use millstream_runtime::operator::{AsyncCall, AsyncWait};
use std::panic::Location;

impl<T: Data> DataStream<T> {
    /// Makes one record of each by an asynchronous call: many calls are under way at a time, and results
    /// leave in the order of their records unless the call is [`unordered`](AsyncCall::unordered). A call
    /// that fails for good ends the job.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// async fn name_of(user: u32) -> Result<String> {
    ///     match user {
    ///         1 => Ok("Ada".to_string()),
    ///         2 => std::future::pending().await, // a server that does not answer
    ///         _ => Err(Error::external("no such user")),
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let lookup = AsyncCall::new(name_of)
    ///     .timeout_or(millis(20), |user| Ok(format!("user {user}")))
    ///     .retry(Retry::exponential(3, millis(1), secs(1)));
    ///
    /// let env = Environment::local();
    /// let names = env.from_collection(vec![2, 1]).async_map(lookup.clone()).uid("names");
    /// let names = names.parallelism(1).execute_and_collect("names")?;
    /// assert_eq!(names, ["user 2", "Ada"]);
    ///
    /// let names = env.from_collection(vec![1, 3]).async_map(lookup.unordered().capacity(1_000));
    /// let error = names.execute_and_collect("names").unwrap_err().to_string();
    /// assert!(error.ends_with("an asynchronous call failed 3 times: no such user"), "{error}");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn async_map<O: Data>(self, call: AsyncCall<T, O>) -> DataStream<O> {
        let make = move |c: &OpContext, outs: Outs<O>| {
            let link: Box<dyn Push<T>> =
                Box::new(AsyncWait::new(call.clone(), outs.output(), &c.operator));
            Ok(link)
        };
        self.add("async_map", "async_map", Location::caller(), make, |_| {})
    }
}
