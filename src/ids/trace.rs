//! The trace that a request belongs to, as W3C Trace Context (level 1, and level 2 where they differ) writes it in two header
//! lines.
//!
//! A caller's trace goes on: its id and its flags stay, and each attempt at a provider is a step of it with an id of its
//! own. The gateway records no steps itself, so that a caller who sends no trace gets none. A `traceparent` that cannot be
//! read begins a new one, and takes `tracestate` with it, as section 4.3 of the standard says.

use std::fmt;
use std::sync::Arc;

/// The header line that names the trace and the caller's step in it.
const PARENT: &str = "traceparent";

/// The header line that holds what each of the tracing systems on the way has to say.
const STATE: &str = "tracestate";

/// The length of a `traceparent` of version 00, whose fields every later version begins with.
const LENGTH: usize = 55;

/// The flags that have a meaning: sampled, and (level 2) an id that is random. Others are set to zero.
const KNOWN_FLAGS: u8 = 0b11;

/// The flags of a trace that begins here: its id is random, and nobody records it.
const FRESH_FLAGS: u8 = 0b10;

/// The longest `tracestate` that is passed on, in bytes: what everybody has to pass on (section 3.3.1.5).
const MOST_STATE: usize = 512;

/// The entries of a `tracestate`; one with more is none (section 3.3.1.1).
const MOST_ENTRIES: usize = 32;

/// Entries that are longer go first where something has to go (section 3.3.1.5).
const LONG_ENTRY: usize = 128;

/// The trace that a request belongs to. Cheap to clone.
///
/// ```
/// use sluicegate::{CallOptions, Gateway, Trace};
///
/// let gateway = Gateway::from_env()?;
/// let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace = Trace::from_headers(own, "").ok_or("that is none")?;
/// assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
/// assert!(trace.is_sampled());
/// // Each attempt is sent on with a `traceparent` of this trace, and a line of `request_log` names it.
/// assert_eq!(gateway.with(CallOptions::new().trace(trace)).ask("sim/echo", "Hello")?, "Hello");
/// assert!(Trace::from_headers("00-0af7651916cd43dd8448eb211c80319c", "").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    flags: u8,
    /// What the ids of a request's steps are made of.
    steps: u64,
    state: Option<Arc<str>>,
}

impl Trace {
    /// The trace that these header lines name; an empty `tracestate` is none, and so is one that breaks its limits. `None` if
    /// `traceparent` cannot be read: versions, lengths, lower case and zeros are judged as the standard says.
    #[must_use]
    pub fn from_headers(traceparent: &str, tracestate: &str) -> Option<Self> {
        let (id, flags) = read_parent(traceparent)?;
        Some(Self { id, flags, steps: fastrand::u64(..), state: read_state(tracestate) })
    }

    /// The trace of a request with these lines, which are taken out of them; none if it says nothing of a trace.
    #[must_use]
    #[doc(hidden)]
    pub fn taken_from(lines: &mut Vec<(&'static str, String)>) -> Option<Self> {
        if !lines.iter().any(|(name, _)| *name == PARENT || *name == STATE) {
            return None;
        }
        let all = |wanted| lines.iter().filter(move |(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        // Several of the first are as good as none that can be read; several of the second are one list.
        let (parents, states): (Vec<_>, Vec<_>) = (all(PARENT).collect(), all(STATE).collect());
        let trace = match *parents {
            [] => None,
            [parent] => Self::from_headers(parent, &states.join(",")).or_else(|| Some(Self::fresh())),
            _ => Some(Self::fresh()),
        };
        lines.retain(|(name, _)| *name != PARENT && *name != STATE);
        trace
    }

    /// A trace that begins here.
    fn fresh() -> Self {
        Self { id: fastrand::u128(1..), flags: FRESH_FLAGS, steps: fastrand::u64(..), state: None }
    }

    /// The same trace for another request, with steps of its own.
    pub(crate) fn for_another(&self) -> Self {
        Self { steps: fastrand::u64(..), ..self.clone() }
    }

    /// The trace's id: 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }

    /// Whether its caller records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// The id of the request's nth attempt, from 0, as a line of a log names it: 16 hexadecimal digits.
    #[cfg(any(feature = "plugins", test))]
    pub(crate) fn step(&self, attempt: u32) -> String {
        format!("{:016x}", self.step_number(attempt))
    }

    /// The `traceparent` of the request's nth attempt, from 0.
    pub(crate) fn parent_of(&self, attempt: u32) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, self.step_number(attempt), self.flags)
    }

    /// The `tracestate` that goes with it.
    pub(crate) fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Numbers that follow each other, mixed until they look like any other (SplitMix64). They are as random as what they
    /// are made of, and whoever has the one has all of the request's, so that a line can name a step that a worker made.
    fn step_number(&self, attempt: u32) -> u64 {
        let mut mixed = self.steps.wrapping_add(u64::from(attempt).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).max(1)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:032x})", self.id)
    }
}

/// Id and flags of a `traceparent`, strictly: of a version that is not known yet, what version 00 has of it (section 4.3).
fn read_parent(text: &str) -> Option<(u128, u8)> {
    let bytes = text.as_bytes();
    let hex = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        let is_lower = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        is_lower.then(|| u128::from_str_radix(text.get(from..to)?, 16).ok())?
    };
    let has_dash = |at: usize| bytes.get(at) == Some(&b'-');
    let (version, id, step, flags) = (hex(0, 2)?, hex(3, 35)?, hex(36, 52)?, hex(53, LENGTH)?);
    let is_whole = bytes.len() == LENGTH || (version > 0 && has_dash(LENGTH));
    let is_good = is_whole && version != 0xFF && has_dash(2) && has_dash(35) && has_dash(52) && id != 0 && step != 0;
    is_good.then_some((id, flags as u8 & KNOWN_FLAGS))
}

/// What of a `tracestate` is passed on: all of it as it is, unless it is too long; nothing if it cannot be read.
fn read_state(text: &str) -> Option<Arc<str>> {
    let is_blank = |entry: &&str| entry.trim_matches([' ', '\t']).is_empty();
    let entries: Vec<&str> = text.split(',').filter(|entry| !is_blank(entry)).collect();
    let is_pair = |entry: &&str| entry.trim_start_matches([' ', '\t']).find('=').is_some_and(|at| at > 0);
    if entries.is_empty() || entries.len() > MOST_ENTRIES || !entries.iter().all(is_pair) {
        return None;
    }
    if text.len() <= MOST_STATE {
        return Some(text.into());
    }
    let mut left = entries;
    let length = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1);
    // The oldest stand at the end.
    while length(&left) > MOST_STATE {
        let longest = left.iter().rposition(|entry| entry.len() > LONG_ENTRY);
        left.remove(longest.unwrap_or(left.len() - 1));
    }
    (!left.is_empty()).then(|| left.join(",").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn taken(lines: &[(&'static str, &str)]) -> Option<Trace> {
        let mut lines: Vec<_> = lines.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        lines.push(("openai-beta", "b".to_owned()));
        let trace = Trace::taken_from(&mut lines);
        assert_eq!(lines, [("openai-beta", "b".to_owned())], "the others stay, and these do not");
        trace
    }

    #[test]
    fn a_good_parent_goes_on_with_a_step_of_its_own_for_each_attempt() {
        let trace = Trace::from_headers(GOOD, "").expect("it is good");
        assert_eq!((trace.id().as_str(), trace.is_sampled()), ("0af7651916cd43dd8448eb211c80319c", true));
        let sent: std::collections::BTreeSet<_> = (0..1000).map(|attempt| trace.parent_of(attempt)).collect();
        assert_eq!(sent.len(), 1000);
        for (attempt, parent) in (0..1000).map(|attempt| (attempt, trace.parent_of(attempt))) {
            assert!(read_parent(&parent).is_some() && parent.starts_with(&GOOD[..36]) && parent.ends_with("-01"));
            assert_eq!(&parent[36..52], trace.step(attempt), "what is logged is what was sent");
            assert_ne!(&parent[36..52], &GOOD[36..52]);
        }
        assert_ne!(trace.for_another().step(0), trace.step(0), "another request has others");
        assert_eq!(Trace { steps: 0x61C8_8646_80B5_83EB, ..trace }.step(0), "0000000000000001", "never all zeros");
    }

    #[test]
    fn a_parent_is_read_strictly() {
        let with = |range: std::ops::Range<usize>, text: &str| {
            let mut parent = GOOD.to_owned();
            parent.replace_range(range, text);
            parent
        };
        for (good, flags) in [
            (GOOD.to_owned(), 1),
            (with(53..55, "00"), 0),
            (with(53..55, "03"), 3),
            (with(53..55, "fd"), 1),
            (with(0..2, "cc"), 1),
            (with(0..2, "01") + "-what-comes-later", 1),
        ] {
            assert_eq!(read_parent(&good).map(|(_, flags)| flags), Some(flags), "{good}");
        }
        for bad in [
            String::new(),
            with(0..2, "ff"),
            with(0..2, "0"),
            with(0..2, "0G"),
            with(0..2, "CC"),
            with(3..35, &"0".repeat(32)),
            with(36..52, &"0".repeat(16)),
            with(3..4, "A"),
            with(3..4, "+"),
            with(2..3, "_"),
            with(35..36, "_"),
            with(52..53, "_"),
            with(53..55, "1"),
            with(53..55, "0A"),
            format!(" {GOOD}"),
            format!("{GOOD}-00"),
            format!("{GOOD}0"),
            with(0..2, "01") + "x",
            with(3..5, "é"),
        ] {
            assert_eq!(read_parent(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace_and_nothing_begins_none() {
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&[(STATE, "a=b")]), None, "nobody's trace");
        for lines in [&[(PARENT, "00-x"), (STATE, "a=b")][..], &[(PARENT, GOOD), (PARENT, GOOD), (STATE, "a=b")]] {
            let trace = taken(lines).expect("a new one");
            assert_ne!(trace.id(), GOOD[3..35]);
            assert_eq!((trace.state(), trace.is_sampled()), (None, false));
            assert!(read_parent(&trace.parent_of(0)).is_some_and(|(_, flags)| flags == FRESH_FLAGS));
        }
        let trace = taken(&[(STATE, "a=1"), (PARENT, GOOD), (STATE, "b=2")]).expect("it is good");
        assert_eq!((trace.id().as_str(), trace.state()), (&GOOD[3..35], Some("a=1,b=2")));
    }

    #[test]
    fn a_state_passes_unchanged_until_it_is_too_long() {
        let state = |text: &str| read_state(text).map(|state| state.to_string());
        for good in ["a=b", "a=b, c@d=e f", "a=b,,\tc=d ", "a=b\tc"] {
            assert_eq!(state(good).as_deref(), Some(good));
        }
        for bad in ["", " ", ",,", "a", "=b", "a=b,c", &["a=b"; 33].join(",")] {
            assert_eq!(state(bad), None, "{bad:?}");
        }
        let (short, long) = ("s=".to_owned() + &"x".repeat(98), "l=".to_owned() + &"x".repeat(200));
        let exact = [&short[..], &short, &short, &short, &short[..], "z=12345"].join(",");
        assert_eq!((exact.len(), state(&exact)), (512, Some(exact.clone())));
        let joined = |entries: &[&str]| entries.join(",");
        assert_eq!(
            state(&joined(&[&short, &long, &short, &short, &long])),
            Some(joined(&[&short, &long, &short, &short]))
        );
        let six = [&short[..]; 6];
        assert_eq!(state(&joined(&six)), Some(joined(&six[..5])), "the oldest goes where all are short");
        assert_eq!(state(&format!("l={}", "x".repeat(600))), None);
    }
}
