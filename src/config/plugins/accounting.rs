//! `plugins`: the settings of `accounting`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::kinds::{FilePath, Kind, Limits as _, Maybe, Number, Refusal, Span, Text, secs};
use crate::config::section::{Section, asks_nothing};

/// Tokens and costs by a price table, with budgets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Accounting {
    /// What models cost, by `provider/model` or the beginning of that and a `*`. They come before the built-in prices.
    pub prices: Vec<(String, Price)>,
    /// What gateway keys may spend, by their names; `*` is for each that has no other, and for requests without a key.
    pub budgets: Vec<(String, Budget)>,
    /// Requests are booked by the value of this tag as well, if they bear it.
    pub by_tag: Option<String>,
    /// What tags' values may spend; `*` is for each that has no other.
    pub tag_budgets: Vec<(String, Budget)>,
    /// At which part of a budget an alert is raised; 0 for never.
    pub warn_at: f64,
    /// Where spent amounts are kept for the next start.
    pub state_file: Option<PathBuf>,
}

/// What a model costs. A price in dollars per million tokens, in millionths, is one in picodollars (10⁻¹² dollars) per token.
///
/// ```
/// use sluicegate::Usage;
/// use sluicegate::config::plugins::Price;
///
/// // 2.50 and 10 dollars per million tokens.
/// let price = Price::new(2_500_000, 10_000_000);
/// let Usage { input, output } = Usage { input: 1_000, output: 200 };
/// let picodollars = input * price.input + output * price.output;
/// assert_eq!(picodollars, 4_500_000_000, "0.45 cents");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Price {
    /// Per token of a request, in picodollars.
    pub input: u64,
    /// Per token of an answer, in picodollars.
    pub output: u64,
}

impl Price {
    /// What is written as dollars per million tokens, in millionths.
    #[must_use]
    pub const fn new(input: u64, output: u64) -> Self {
        Self { input, output }
    }
}

/// What may be spent in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// How much, in millionths of a dollar.
    pub limit: u64,
    /// In which time.
    pub period: Period,
}

/// The time that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Period {
    /// A day from midnight to midnight, UTC.
    Day,
    /// A calendar month, UTC.
    Month,
    /// For ever.
    Total,
    /// Any other, one after the other from the beginning of 1970 on.
    Every(Duration),
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> Accounting {
    let price = |s: &mut Section<'_>| Price { input: s.get("input", Dollars), output: s.get("output", Dollars) };
    let prices = s.each("prices", price);
    for (name, _) in &prices {
        let (known, more) = name.split_once('*').unwrap_or((name, ""));
        if !more.is_empty() || !known.contains('/') {
            let text = format!("{name:?} is neither \"provider/model\" nor the beginning of that and one \"*\"");
            s.problem("prices", text);
        }
    }
    Accounting {
        prices,
        budgets: budgets(s, "budgets"),
        by_tag: s.get("by_tag", Maybe(Text(String::new()))),
        tag_budgets: budgets(s, "tag_budgets"),
        warn_at: s.get("warn_at", Number(0.8).hard(0.0, 1.0)),
        state_file: s.get("state_file", FilePath),
    }
}

fn budgets(s: &mut Section<'_>, key: &'static str) -> Vec<(String, Budget)> {
    let read = |s: &mut Section<'_>| Budget { limit: s.get("limit", Dollars), period: s.get("period", Periods) };
    let budgets = s.each(key, read);
    // One that is wrong in itself has been told of.
    let is_wrong = |name: &String| {
        let limit = s.object_at(key).and_then(|budgets| budgets.get(name)?.get("limit"));
        limit.is_some_and(|limit| !asks_nothing(limit))
    };
    for (name, _) in budgets.iter().filter(|(name, budget)| budget.limit == 0 && !is_wrong(name)) {
        s.problem(
            key,
            format!("{name:?} needs a limit of more than 0 dollars: {{ \"limit\": 10, \"period\": \"month\" }}"),
        );
    }
    budgets
}

/// An amount in dollars, read as millionths of one.
struct Dollars;

/// The most that may be set, in dollars.
const MOST: f64 = 1e9;

const MILLIONTHS: f64 = 1e6;

impl Kind for Dollars {
    type Out = u64;

    fn read(&self, _: &str, value: &Value) -> Result<u64, Refusal> {
        let amount = value.as_f64().filter(|amount| (0.0..=MOST).contains(amount));
        let exact = amount.map(|amount| (amount, (amount * MILLIONTHS).round()));
        // What has more places would be another amount than the one that is written.
        let exact = exact.filter(|(amount, whole)| (whole / MILLIONTHS).to_bits() == amount.to_bits());
        let text = "an amount in dollars, from 0 to 1000000000, with at most six places behind the point";
        exact.map(|(_, whole)| whole as u64).ok_or_else(|| text.into())
    }

    fn fallback(&self) -> u64 {
        0
    }

    fn show(&self, _: &str, out: &u64) -> Value {
        (*out as f64 / MILLIONTHS).into()
    }

    fn schema(&self, _: &str) -> Value {
        json!({"type": "number", "minimum": 0, "maximum": MOST, "default": 0})
    }
}

/// A period: a word, or a time.
struct Periods;

const WORDS: [(&str, Period); 3] = [("day", Period::Day), ("month", Period::Month), ("total", Period::Total)];

impl Kind for Periods {
    type Out = Period;
    const TEXT: bool = true;

    fn read(&self, key: &str, value: &Value) -> Result<Period, Refusal> {
        if let Some((_, period)) = WORDS.iter().find(|(word, _)| value == word) {
            return Ok(*period);
        }
        let time = Span(secs(0)).hard(secs(1), secs(365 * 86_400)).read(key, value);
        time.map(Period::Every).map_err(|_| "\"day\", \"month\", \"total\" or a time from \"1s\" to \"8760h\"".into())
    }

    fn fallback(&self) -> Period {
        Period::Month
    }

    fn show(&self, key: &str, out: &Period) -> Value {
        match (out, WORDS.iter().find(|(_, period)| period == out)) {
            (Period::Every(time), _) => Span(secs(0)).show(key, time),
            (_, word) => word.map_or(Value::Null, |(word, _)| (*word).into()),
        }
    }

    fn schema(&self, key: &str) -> Value {
        let words: Vec<_> = WORDS.iter().map(|(word, _)| *word).collect();
        let mut time = Span(secs(0)).schema(key);
        if let Some(object) = time.as_object_mut() {
            object.remove("default");
        }
        json!({"anyOf": [{"enum": words}, time], "default": "month"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_exact_to_the_millionth_or_refused() {
        for (written, millionths) in
            [(json!(2.5), 2_500_000), (json!(0.000_001), 1), (json!(0.1), 100_000), (json!(3), 3_000_000)]
        {
            assert_eq!(Dollars.read("", &written), Ok(millionths));
            assert_eq!(Dollars.show("", &millionths).as_f64(), written.as_f64());
        }
        for wrong in [json!(0.000_000_1), json!(1.000_000_5), json!(-1), json!(1e10), json!("1"), json!(null)] {
            assert!(Dollars.read("", &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_period_is_a_word_or_a_time() {
        let time = Period::Every(Duration::from_secs(90));
        for (written, period) in [(json!("day"), Period::Day), (json!("total"), Period::Total), (json!("90s"), time)] {
            assert_eq!(Periods.read("period", &written), Ok(period), "{written}");
            let shown = Periods.show("period", &period);
            assert_eq!(Periods.read("period", &shown), Ok(period), "{shown}");
        }
        // The longest, either way that it can be written.
        for longest in [json!("8760h"), json!(365 * 86_400_000u64)] {
            let shown = Periods.show("period", &Periods.read("period", &longest).expect("a year"));
            assert_eq!(shown, "8760h", "{longest}");
        }
        for wrong in
            [json!("week"), json!("0s"), json!(true), json!("500ms"), json!("8761h"), json!(366 * 86_400_000u64)]
        {
            assert!(Periods.read("period", &wrong).is_err(), "{wrong}");
        }
    }
}
