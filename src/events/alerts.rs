//! Alerts: what is wrong now, one a kind and subject, from the moment it began until it is over.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Events;
use crate::time::unix_ms;

/// The most that stand at a time; what comes beyond is left out until one is over.
pub const MOST_ALERTS: usize = 256;

/// What stands, by kind and subject.
pub(super) type Standing = BTreeMap<(&'static str, String), Alert>;

/// Something that is wrong now.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// gateway.pause("sim");
/// let alerts = gateway.events().alerts();
/// assert_eq!((alerts[0].kind, alerts[0].subject.as_str()), ("provider_paused", "sim"));
/// gateway.resume("sim");
/// assert!(gateway.events().alerts().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alert {
    /// What kind: `pool_hit_ratio`, `stuck_thread`, `queue_stalled`, …
    pub kind: &'static str,
    /// Whom it concerns: a pool's, provider's or thread's name.
    pub subject: String,
    /// What is wrong, in words.
    pub message: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Events {
    /// Says that something is wrong. Said again while it stands, only its words change.
    #[doc(hidden)]
    pub fn raise(&self, kind: &'static str, subject: &str, message: impl Into<String>) {
        let message = message.into();
        let is_new = {
            let mut standing = self.0.standing.lock();
            let full = standing.len() >= MOST_ALERTS;
            match standing.get_mut(&(kind, subject.to_owned())) {
                Some(alert) => {
                    alert.message.clone_from(&message);
                    false
                }
                None if full => false,
                None => {
                    let alert =
                        Alert { kind, subject: subject.to_owned(), message: message.clone(), since_ms: unix_ms() };
                    standing.insert((kind, subject.to_owned()), alert);
                    true
                }
            }
        };
        if is_new {
            log::warn!("{kind} ({subject}): {message}");
            self.push(kind, subject, message);
        }
    }

    /// Says that it is over. Nothing happens if it was not said.
    #[doc(hidden)]
    pub fn clear(&self, kind: &'static str, subject: &str) {
        let ended = self.0.standing.lock().remove(&(kind, subject.to_owned()));
        if ended.is_some() {
            // Whoever was warned hears of the end, too.
            log::warn!("{kind} ({subject}): over");
            self.push(kind, subject, "over");
        }
    }

    /// [`raise`](Self::raise)s with the words if there are any, else [`clear`](Self::clear)s.
    #[doc(hidden)]
    pub fn set(&self, kind: &'static str, subject: &str, wrong: Option<String>) {
        match wrong {
            Some(message) => self.raise(kind, subject, message),
            None => self.clear(kind, subject),
        }
    }

    /// What is wrong now, by kind and subject.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.0.standing.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_stands_once_until_it_is_cleared_and_both_are_events() {
        let events = Events::new();
        events.raise("stuck_thread", "a", "for 2 s");
        events.raise("stuck_thread", "a", "for 3 s");
        events.set("stuck_thread", "b", Some("for 1 s".to_owned()));
        let alerts = events.alerts();
        assert_eq!(alerts.iter().map(|alert| alert.message.as_str()).collect::<Vec<_>>(), ["for 3 s", "for 1 s"]);
        events.set("stuck_thread", "a", None);
        events.clear("stuck_thread", "nobody");
        assert_eq!(events.alerts().len(), 1);
        let told: Vec<_> = events.list().into_iter().map(|event| (event.subject, event.message)).collect();
        let expected = [("a", "for 2 s"), ("b", "for 1 s"), ("a", "over")];
        assert_eq!(told, expected.map(|(subject, message)| (subject.to_owned(), message.to_owned())));
    }

    #[test]
    fn standing_alerts_are_bounded() {
        let events = Events::new();
        (0..=MOST_ALERTS).for_each(|n| events.raise("stuck_thread", &n.to_string(), "for ever"));
        assert_eq!(events.alerts().len(), MOST_ALERTS);
    }
}
