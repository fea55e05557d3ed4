//! What models cost: the configuration's prices, and a few that are built in. Pure.
//!
//! **Built in** are list prices for text in dollars per million tokens as they stood in public in the autumn of 2026:
//! Anthropic's by the table of <https://platform.claude.com/docs/en/about-claude/pricing>, OpenAI's as they are quoted from
//! <https://developers.openai.com/api/docs/pricing>. Few of many: whoever pays should write the prices that they pay into
//! the configuration. Discounts for cached input and for batches, and higher prices of long requests, are not known here.

use crate::config::plugins::Price;
use crate::model::Usage;

/// Picodollars: 10⁻¹² dollars, so that a price of a token is a whole number of them.
pub(super) type Pico = u128;

/// A million picodollars: what a price or a limit is written in at the finest.
pub(super) const MICRO: Pico = 1_000_000;

const fn dollars(input: u64, output: u64) -> Price {
    Price::new(input * 1000, output * 1000)
}

/// Prices in thousandths of a dollar per million tokens. A name stands for its dated versions, too.
const BUILT_IN: [(&str, Price); 18] = [
    ("openai/gpt-4o", dollars(2_500, 10_000)),
    ("openai/gpt-4o-2024-05-13", dollars(5_000, 15_000)),
    ("openai/gpt-4o-mini", dollars(150, 600)),
    ("openai/gpt-4.1", dollars(2_000, 8_000)),
    ("openai/gpt-4.1-mini", dollars(400, 1_600)),
    ("openai/gpt-4.1-nano", dollars(100, 400)),
    ("openai/text-embedding-3-small", dollars(20, 0)),
    ("openai/text-embedding-3-large", dollars(130, 0)),
    ("anthropic/claude-opus-4-6", dollars(5_000, 25_000)),
    ("anthropic/claude-opus-4-5", dollars(5_000, 25_000)),
    ("anthropic/claude-opus-4-1", dollars(15_000, 75_000)),
    ("anthropic/claude-opus-4", dollars(15_000, 75_000)),
    ("anthropic/claude-sonnet-4-6", dollars(3_000, 15_000)),
    ("anthropic/claude-sonnet-4-5", dollars(3_000, 15_000)),
    ("anthropic/claude-sonnet-4", dollars(3_000, 15_000)),
    ("anthropic/claude-haiku-4-5", dollars(1_000, 5_000)),
    ("anthropic/claude-3-5-haiku", dollars(800, 4_000)),
    ("anthropic/claude-3-haiku", dollars(250, 1_250)),
];

/// What a request of so many tokens costs.
pub(super) fn cost(price: Price, usage: Usage) -> Pico {
    let of = |tokens: u64, price: u64| Pico::from(tokens) * Pico::from(price);
    of(usage.input, price.input) + of(usage.output, price.output)
}

/// What models cost.
#[derive(Debug)]
pub(super) struct Prices {
    own: Vec<(String, Price)>,
}

impl Prices {
    /// The configuration's prices before the built-in ones.
    pub(super) fn new(own: &[(String, Price)]) -> Self {
        Self { own: own.to_vec() }
    }

    /// The price of a model by its name, `provider/model`: the configuration's under this very name, else its longest
    /// beginning of it, else a built-in one.
    pub(super) fn of(&self, name: &str) -> Option<Price> {
        if let Some((_, price)) = self.own.iter().find(|(own, _)| own == name) {
            return Some(*price);
        }
        let beginning = |own: &str| own.strip_suffix('*').filter(|begin| name.starts_with(begin)).map(str::len);
        let longest = self.own.iter().filter_map(|(own, price)| Some((beginning(own)?, *price)));
        if let Some((_, price)) = longest.max_by_key(|(length, _)| *length) {
            return Some(price);
        }
        let exact = BUILT_IN.iter().find(|(known, _)| *known == name);
        let dated = || BUILT_IN.iter().find(|(known, _)| name.strip_prefix(known).is_some_and(is_date));
        exact.or_else(dated).map(|(_, price)| *price)
    }

    /// The highest prices that there are: of a request of which nobody knows yet where it goes.
    pub(super) fn dearest(&self) -> Price {
        let all = self.own.iter().map(|(_, price)| *price).chain(BUILT_IN.iter().map(|(_, price)| *price));
        all.fold(Price::default(), |most, price| Price::new(most.input.max(price.input), most.output.max(price.output)))
    }
}

/// Whether it is what dated versions have behind their name: `-20250929` or `-2024-08-06`.
fn is_date(rest: &str) -> bool {
    let parts: Vec<_> = rest.strip_prefix('-').unwrap_or_default().split('-').collect();
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    matches!(lengths[..], [8] | [4, 2, 2]) && parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_configurations_prices_come_first_and_the_longest_beginning_wins() {
        let own = [("openai/*", 1), ("openai/gpt-4o*", 2), ("openai/gpt-4o-mini", 3), ("p/*", 4)];
        let own: Vec<_> = own.map(|(name, price)| (name.to_owned(), Price::new(price, price))).to_vec();
        let prices = Prices::new(&own);
        for (name, price) in [
            ("openai/gpt-4o-mini", Some(3)),
            ("openai/gpt-4o-mini-2024-07-18", Some(2)),
            ("openai/gpt-4o", Some(2)),
            ("openai/o3", Some(1)),
            ("p/", Some(4)),
            ("q/m", None),
        ] {
            assert_eq!(prices.of(name).map(|price| price.input), price, "{name}");
        }
    }

    #[test]
    fn a_built_in_price_is_for_a_name_and_its_dated_versions_and_for_no_other_model() {
        let prices = Prices::new(&[]);
        let input = |name: &str| prices.of(name).map(|price| price.input);
        assert_eq!(input("openai/gpt-4o"), Some(2_500_000));
        assert_eq!(input("openai/gpt-4o-2024-08-06"), Some(2_500_000));
        assert_eq!(input("openai/gpt-4o-2024-05-13"), Some(5_000_000));
        assert_eq!(input("anthropic/claude-sonnet-4-5-20250929"), Some(3_000_000));
        assert_eq!(input("anthropic/claude-opus-4-20250514"), Some(15_000_000));
        for other in
            ["openai/gpt-4o-audio-preview", "openai/gpt-4", "openai/gpt-4o-", "azure/gpt-4o", "gpt-4o", "sim/echo"]
        {
            assert_eq!(input(other), None, "{other}");
        }
        assert_eq!(prices.dearest(), Price::new(15_000_000, 75_000_000));
    }

    #[test]
    fn a_million_tokens_cost_what_the_price_says() {
        let price = Prices::new(&[]).of("openai/gpt-4o").expect("it is built in");
        let million = Usage { input: 1_000_000, output: 1_000_000 };
        assert_eq!(cost(price, million), 12_500_000 * MICRO);
    }

    proptest! {
        /// Nothing is lost by adding up: what many requests cost one by one is what their tokens cost together.
        #[test]
        fn costs_add_up_exactly(price in (0..u64::MAX, 0..u64::MAX), usages in proptest::collection::vec((0..1u64 << 40, 0..1u64 << 40), 0..50)) {
            let price = Price::new(price.0, price.1);
            let usages: Vec<_> = usages.into_iter().map(|(input, output)| Usage { input, output }).collect();
            let sum = |of: fn(&Usage) -> u64| usages.iter().map(of).sum();
            let together = Usage { input: sum(|u| u.input), output: sum(|u| u.output) };
            prop_assert_eq!(usages.iter().map(|usage| cost(price, *usage)).sum::<Pico>(), cost(price, together));
        }
    }
}
