//! The records of the data sets, each with its file and the parser of its lines.
//!
//! Only what the examples use is kept of a line. Texts are slices of it, so parsing copies nothing long.

use crate::clock::{parse_iso, parse_log};
use crate::fields::Fields;
use millstream::prelude::*;
use serde::{Deserialize, Serialize};

/// A line of a data set.
pub trait Record: Data {
    /// Its file in the data folder.
    const FILE: &'static str;
    /// Lines before the first record.
    const N_HEADER_LINES: u64;
    /// The record of a line.
    ///
    /// # Errors
    /// What is wrong with the line.
    fn parse(line: &Text) -> Result<Self, String>;
}

/// A flight that left New York, at the time it left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Departure {
    /// Its place in the file, from 0.
    pub seq: u64,
    /// When it left.
    pub actual_ts: EventTime,
    /// When it was to leave.
    pub sched_ts: EventTime,
    /// The airline's code.
    pub carrier: Text,
    /// The aircraft, if it is known; else empty.
    pub tailnum: Text,
    /// The airport it left.
    pub origin: Text,
    /// The airport it flew to.
    pub dest: Text,
    /// How late it left, in minutes; negative if it was early.
    pub delay_min: i64,
}

impl Record for Departure {
    const FILE: &'static str = "streams/departures.csv.gz";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, ',');
        let seq = fields.number("seq")?;
        let actual_ts = fields.number("actual_ts_ms")?;
        let sched_ts = fields.number("sched_ts_ms")?;
        let carrier = fields.text("carrier")?;
        fields.skip(["flight"])?;
        let tailnum = fields.text("tailnum")?;
        let origin = fields.text("origin")?;
        let dest = fields.text("dest")?;
        let delay_min = fields.number("dep_delay_min")?;
        fields.skip(["air_time_min", "distance_mi"])?;
        fields.end()?;
        Ok(Departure { seq, actual_ts, sched_ts, carrier, tailnum, origin, dest, delay_min })
    }
}

/// The end of a flight.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrival {
    /// Its place in the file, from 0.
    pub seq: u64,
    /// When it arrived.
    pub arr_ts: EventTime,
    /// The aircraft.
    pub tailnum: Text,
}

impl Record for Arrival {
    const FILE: &'static str = "streams/arrivals.csv.gz";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, ',');
        let seq = fields.number("seq")?;
        let arr_ts = fields.number("arr_ts_ms")?;
        fields.skip(["carrier", "flight"])?;
        let tailnum = fields.text("tailnum")?;
        fields.skip(["origin", "dest"])?;
        fields.end()?;
        Ok(Arrival { seq, arr_ts, tailnum })
    }
}

/// An airline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Airline {
    /// Its code.
    pub carrier: Text,
    /// Its name.
    pub name: Text,
}

impl Record for Airline {
    const FILE: &'static str = "nycflights13/airlines.csv";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, ',');
        let (carrier, name) = (fields.text("carrier")?, fields.text("name")?);
        fields.end()?;
        Ok(Airline { carrier, name })
    }
}

/// An hour's weather at an airport.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Weather {
    /// The airport.
    pub origin: Text,
    /// When it was observed.
    pub ts: EventTime,
    /// Wind speed in miles per hour as the file writes it; empty if it is not known.
    pub wind_speed: Text,
}

impl Record for Weather {
    const FILE: &'static str = "nycflights13/weather.csv.gz";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, ',');
        let origin = fields.text("origin")?;
        fields.skip(["year", "month", "day", "hour", "temp", "dewp", "humid", "wind_dir"])?;
        let wind_speed = Some(fields.text("wind_speed")?).filter(|speed| speed != "NA");
        fields.skip(["wind_gust", "precip", "pressure", "visib"])?;
        let ts = parse_iso(fields.next("time_hour")?)?;
        fields.end()?;
        Ok(Weather { origin, ts, wind_speed: wind_speed.unwrap_or_default() })
    }
}

/// A request to NASA's web server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hit {
    /// Who asked.
    pub host: Text,
    /// When.
    pub ts: EventTime,
    /// For what.
    pub url: Text,
    /// The status of the response.
    pub status: u16,
    /// The size of the response in bytes.
    pub bytes: u64,
}

impl Record for Hit {
    const FILE: &'static str = "nasa-http/nasa_19950801.tsv.gz";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, '\t');
        let host = fields.text("host")?;
        fields.skip(["logname"])?;
        let time_s: EventTime = fields.number("time")?;
        let ts =
            time_s.checked_mul(1000).ok_or_else(|| format!("time {time_s} is out of range"))?;
        fields.skip(["method"])?;
        let url = fields.text("url")?;
        let status = fields.number("response")?;
        let bytes = fields.number("bytes")?;
        // The header names two more columns, which no line has.
        fields.end()?;
        Ok(Hit { host, ts, url, status, bytes })
    }
}

/// A request in the combined log format of Apache's web server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApacheHit {
    /// When it was logged to have come.
    pub ts: EventTime,
    /// The status of the response.
    pub status: Text,
    /// The size of the response in bytes; 0 if the log has none.
    pub bytes: u64,
    /// The whole line.
    pub line: Text,
}

impl Record for ApacheHit {
    const FILE: &'static str = "apache-log/apache_logs.gz";
    const N_HEADER_LINES: u64 = 0;

    fn parse(line: &Text) -> Result<Self, String> {
        // host ident user [time] "request" status bytes "referrer" "agent"
        let (_, rest) = line.split_once(" [").ok_or("there is no [ before a time")?;
        let (time, rest) =
            rest.split_once("] \"").ok_or("there is no ] and request after the time")?;
        let ts = parse_log(time)?;
        let (_, rest) = rest.split_once("\" ").ok_or("there is no end of the request")?;
        let rest = line.slice_of(rest);
        let mut fields = Fields::new(&rest, ' ');
        let status = fields.text("status")?;
        let bytes = match fields.next("bytes")? {
            "-" => 0,
            bytes => bytes.parse().map_err(|e| format!("bytes `{bytes}` is no number: {e}"))?,
        };
        Ok(ApacheHit { ts, status, bytes, line: line.clone() })
    }
}

/// A change of a page of Wikipedia.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Edit {
    /// When it was made.
    pub ts: EventTime,
    /// The same as the file writes it.
    pub time: Text,
    /// Which Wikipedia.
    pub channel: Text,
    /// By whom.
    pub user: Text,
    /// Characters added.
    pub added: i64,
    /// Characters deleted.
    pub deleted: i64,
}

impl Record for Edit {
    const FILE: &'static str = "wikiticker/wikiticker-2015-09-12-sampled.json.gz";
    const N_HEADER_LINES: u64 = 0;

    fn parse(line: &Text) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Line {
            time: Text,
            channel: Text,
            user: Text,
            added: i64,
            deleted: i64,
        }
        let Line { time, channel, user, added, deleted } =
            serde_json::from_str(line).map_err(|e| e.to_string())?;
        Ok(Edit { ts: parse_iso(&time)?, time, channel, user, added, deleted })
    }
}

/// A flight within the United States.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomesticFlight {
    /// When it was to leave.
    pub ts: EventTime,
    /// Where it flew to.
    pub destination: Text,
}

impl Record for DomesticFlight {
    const FILE: &'static str = "us-flights-2001/flights-3m.csv.gz";
    const N_HEADER_LINES: u64 = 1;

    fn parse(line: &Text) -> Result<Self, String> {
        let mut fields = Fields::new(line, ',');
        let ts = fields.number("ts_ms")?;
        fields.skip(["delay", "distance", "origin"])?;
        let destination = fields.text("destination")?;
        fields.end()?;
        Ok(DomesticFlight { ts, destination })
    }
}

/// A verse of the Bible.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verse {
    /// Where it is, `Ge1:1`.
    pub reference: Text,
    /// What it says.
    pub text: Text,
}

impl Record for Verse {
    const FILE: &'static str = "kjv/kjv.txt.gz";
    const N_HEADER_LINES: u64 = 0;

    fn parse(line: &Text) -> Result<Self, String> {
        let (reference, text) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Verse { reference: line.slice_of(reference), text: line.slice_of(text) })
    }
}

impl Verse {
    /// Its words: the longest runs of ASCII letters, in lower case.
    ///
    /// ```
    /// use millstream_examples::records::{Record, Verse};
    ///
    /// let verse = Verse::parse(&"Ge1:3 And God said, Let there be light".into()).unwrap();
    /// assert_eq!(verse.words().collect::<Vec<_>>(), ["and", "god", "said", "let", "there", "be", "light"]);
    /// ```
    pub fn words(&self) -> impl Iterator<Item = Text> {
        words(&self.text)
    }
}

/// The words of a text: the longest runs of ASCII letters, in lower case.
pub fn words(text: &str) -> impl Iterator<Item = Text> {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .filter(|word| !word.is_empty())
        .map(Text::lower_ascii)
}
