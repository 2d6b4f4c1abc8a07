//! The meaning of the newest lines of a log, without a database.

use std::time::Duration;

use super::log_ends::Ends;
use crate::clock::Timestamp;
use crate::openshell::watch::LogLine;
use crate::resources::bypass_events::classify::{BypassLine, classify};
use crate::resources::bypass_events::ocsf::is_ocsf;
use crate::resources::bypass_events::refused::{self, RefusedLine};

/// A time that is further ahead is not used.
const AHEAD_MAX: Duration = Duration::from_hours(24);

/// Facts that lines show.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Time of the newest line that was ever read, but not later than when it was read: a time that is ahead would hide
    /// the lines that follow.
    pub(super) log_time: Option<Timestamp>,
    /// Number of lines that have arrived after those of the last read.
    pub(super) new: usize,
    /// Whether lines were missed: there were as many as requested, and all are new.
    pub(super) has_gap: bool,
    /// Whether lines may have been missed: the last ones of the previous read are missing, although fewer than
    /// requested were returned. Lines with earlier times, which are not returned, may have pushed them out.
    pub(super) is_cut_off: bool,
    /// Time between the oldest and the newest line.
    pub(super) span: Duration,
    /// Lines that show an attempt to bypass the policy, oldest first.
    pub(super) bypasses: Vec<BypassLine>,
    /// Lines about connections that the policy has refused, those that are stored, oldest first.
    pub(super) refused: Vec<RefusedLine>,
}

impl Shown {
    /// Lines that are larger than what is read at once: they are missed.
    pub(super) fn unreadable(log_time: Option<Timestamp>) -> Self {
        let (bypasses, refused) = (Vec::new(), Vec::new());
        Self {
            log_time,
            new: 0,
            has_gap: true,
            is_cut_off: false,
            span: Duration::ZERO,
            bypasses,
            refused,
        }
    }
}

/// Examines lines of a log, in the order of their arrival, of which `requested` were requested. `log_time` and `ends`
/// are those of the previous read; without `ends`, lines are compared by their times.
pub(super) fn examine(
    lines: &[LogLine],
    requested: usize,
    (log_time, ends): (Option<Timestamp>, &Ends),
    now: Timestamp,
) -> Shown {
    let log_time = log_time.map(|before| before.min(now));
    let latest = now.plus(AHEAD_MAX);
    let is_sound = |at: &Timestamp| (Timestamp::EPOCH..=latest).contains(at);
    let (mut bypasses, mut connections) = (Vec::new(), Vec::new());
    let (mut oldest, mut newest, mut newer) = (None::<Timestamp>, None::<Timestamp>, 0);
    for line in lines {
        let at = line.at.filter(is_sound);
        if let Some(at) = at {
            oldest = Some(oldest.map_or(at, |oldest| oldest.min(at)));
            newest = newest.max(Some(at));
            newer += usize::from(log_time.is_none_or(|before| at > before));
        }
        if is_ocsf(&line.level, &line.target) {
            // A line without a time gets that of a line before it, so that it is the same line when it is read again.
            let known = at.or(newest).or(log_time.filter(|before| *before > Timestamp::EPOCH));
            bypasses.extend(classify(&line.message, known.unwrap_or(now)));
            // With the time of now, it would be another line in each pass, and push out the others.
            connections.extend(known.and_then(|at| refused::parse(&line.message, at)));
        }
    }
    let is_full = !lines.is_empty() && lines.len() >= requested;
    let span = newest.zip(oldest).map_or(Duration::ZERO, |(newest, oldest)| newest.since(oldest));
    // After an empty log, each line is new.
    let first = lines.is_empty().then_some(Timestamp::EPOCH);
    let following = ends.following(lines);
    let is_missing = !ends.is_empty() && following.is_none();
    let is_all_newer = ends.is_empty() && log_time.is_some() && newer == lines.len();
    let has_gap = is_full && (is_missing || is_all_newer);
    Shown {
        // Without new lines it stays, so that a line that is ahead is not stored in each pass.
        log_time: match following {
            Some(0) => log_time,
            Some(_) | None => log_time.max(newest.map(|newest| newest.min(now))).or(first),
        },
        new: following.unwrap_or(if has_gap { lines.len() } else { newer }),
        has_gap,
        is_cut_off: is_missing && !is_full,
        span,
        bypasses,
        refused: refused::stored_of(connections),
    }
}

/// Returns the number of lines per minute, if so many were written in this time.
pub(super) fn per_minute(lines: usize, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    (lines as u64).saturating_mul(60_000) / millis
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_unix_seconds(NOW.unix_seconds() - 100 + second)
    }

    /// Examines lines as the first read of a process does.
    fn by_time(
        lines: &[LogLine],
        requested: usize,
        log_time: Option<Timestamp>,
        now: Timestamp,
    ) -> Shown {
        examine(lines, requested, (log_time, &Ends::default()), now)
    }

    fn line(time: Option<Timestamp>, level: &str, message: &str) -> LogLine {
        let (level, message) = (level.to_owned(), message.to_owned());
        LogLine { at: time, level, message, ..LogLine::default() }
    }

    fn plain(seconds: std::ops::Range<i64>) -> Vec<LogLine> {
        seconds.map(|second| line(Some(at(second)), "INFO", "x")).collect()
    }

    #[test]
    fn as_many_lines_as_requested_that_are_all_new_mean_a_gap() {
        for (lines, log_time, has_gap, new) in [
            (plain(1..11), Some(at(0)), true, 10),
            (plain(0..10), Some(at(0)), false, 9),
            (plain(1..10), Some(at(0)), false, 9),
            (plain(1..11), Some(Timestamp::EPOCH), true, 10),
            // The lines before the first read may be older than the sandbox is known.
            (plain(1..11), None, false, 10),
            (Vec::new(), Some(at(0)), false, 0),
        ] {
            let shown = by_time(&lines, 10, log_time, NOW);
            assert_eq!((shown.has_gap, shown.new), (has_gap, new), "{lines:?}");
        }
    }

    #[test]
    fn lines_that_do_not_follow_the_previous_ones_mean_a_gap_whatever_their_times() {
        let ahead = line(Some(NOW.plus(AHEAD_MAX)), "INFO", "ahead");
        let before = [plain(0..5), vec![ahead.clone()]].concat();
        let ends = Ends::of(("one", Some(NOW)), &before, None);
        let look = |lines: &[LogLine]| examine(lines, 10, (Some(NOW), &ends), NOW);
        // All of their times are before that of the line that is ahead, and before the position.
        let shown = look(&plain(5..15));
        assert_eq!((shown.has_gap, shown.is_cut_off, shown.new), (true, false, 10));
        let shown = look(&[vec![ahead], plain(5..14)].concat());
        assert_eq!((shown.has_gap, shown.is_cut_off, shown.new), (false, false, 9));
        // Lines with earlier times are not returned.
        let shown = look(&plain(5..14));
        assert_eq!((shown.has_gap, shown.is_cut_off), (false, true));
        let shown = examine(&before, 10, (Some(at(0)), &ends), NOW);
        assert_eq!((shown.new, shown.log_time), (0, Some(at(0))), "nothing is new");
    }

    #[test]
    fn the_time_of_the_newest_line_only_grows_and_ignores_times_far_ahead() {
        let newest = |lines: &[LogLine], log_time| by_time(lines, 10, log_time, NOW).log_time;
        assert_eq!(newest(&plain(1..4), Some(at(0))), Some(at(3)));
        assert_eq!(newest(&plain(1..4), Some(at(9))), Some(at(9)));
        assert_eq!(newest(&[], Some(at(9))), Some(at(9)));
        assert_eq!(newest(&[], None), Some(Timestamp::EPOCH), "each later line is new");
        let ahead = NOW.plus(AHEAD_MAX);
        assert_eq!(newest(&[line(Some(ahead), "INFO", "x")], None), Some(NOW));
        assert_eq!(newest(&[], Some(ahead)), Some(NOW), "a position that is ahead hides no lines");
        let too_far = ahead.plus(Duration::from_micros(1));
        for bad in [too_far, Timestamp::from_unix_micros(-1), Timestamp::from_unix_micros(i64::MAX)]
        {
            assert_eq!(newest(&[line(Some(bad), "INFO", "x")], Some(at(0))), Some(at(0)));
        }
    }

    #[test]
    fn only_security_events_are_judged_and_a_line_without_a_time_gets_a_stable_one() {
        let text = "PROC:LAUNCH [HIGH] unshare";
        let lines = [
            line(Some(at(1)), "INFO", text),
            line(Some(at(2)), "OCSF", text),
            line(None, "OCSF", text),
            line(Some(at(3)), "OCSF", "CONFIG:LOADED [INFO] bypass"),
        ];
        let times = |lines: &[LogLine], log_time| {
            let shown = by_time(lines, 10, log_time, NOW);
            shown.bypasses.iter().map(|found| found.at).collect::<Vec<_>>()
        };
        assert_eq!(times(&lines, Some(at(0))), [at(2), at(2)]);
        assert_eq!(times(&lines[2..], Some(at(0))), [at(0)]);
        assert_eq!(times(&lines[2..3], None), [NOW]);
    }

    #[test]
    fn refused_connections_of_security_events_are_shown() {
        let text = "NET:OPEN [MED] DENIED /usr/bin/curl(58) -> a.example:443 [engine:opa]";
        let lines = [line(Some(at(1)), "INFO", text), line(Some(at(2)), "OCSF", text)];
        let shown = by_time(&lines, 10, Some(at(0)), NOW);
        assert!(shown.bypasses.is_empty(), "{shown:?}");
        let [refused] = &shown.refused[..] else { panic!("{shown:?}") };
        assert_eq!((refused.at, refused.host.as_str()), (at(2), "a.example"));
        // Without a known time, it is not stored.
        let untimed = [line(None, "OCSF", text)];
        let times = |log_time: Option<Timestamp>| {
            let shown = by_time(&untimed, 10, log_time, NOW);
            shown.refused.iter().map(|refused| refused.at).collect::<Vec<_>>()
        };
        assert_eq!(times(Some(at(0))), [at(0)]);
        for unknown in [None, Some(Timestamp::EPOCH)] {
            assert!(times(unknown).is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn lines_per_minute_are_those_of_the_time_in_which_they_were_written() {
        assert_eq!(per_minute(2_000, Duration::from_millis(200)), 600_000);
        assert_eq!(per_minute(150, Duration::from_secs(15)), 600);
        assert_eq!(per_minute(2, Duration::ZERO), 120_000);
        assert_eq!(by_time(&plain(0..5), 10, None, NOW).span, Duration::from_secs(4));
    }
}
