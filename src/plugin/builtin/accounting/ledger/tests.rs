//! What the ledger books, reserves and refuses.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Prices in whole dollars per million tokens: `p/m` costs 1 and 2, `p/dear` 10 and 20; `q/m` has none.
fn rules(budgets: &[(&str, u64, Period)]) -> Rules {
    let price = |name: &str, each: u64| (name.to_owned(), Price::new(each * 1_000_000, each * 2_000_000));
    let budget =
        |(name, limit, period): &(&str, u64, Period)| ((*name).to_owned(), Budget { limit: *limit, period: *period });
    Rules {
        prices: Prices::new(&[price("p/m", 1), price("p/dear", 10)]),
        budgets: budgets.iter().map(budget).collect(),
        tag_budgets: Vec::new(),
        warn_at: 0.8,
    }
}

fn ledger() -> Ledger {
    Ledger::new(BTreeMap::new())
}

fn key(name: &str) -> Who {
    Who::Key(name.to_owned())
}

fn counted(model: &'static str, input: u64, output: u64) -> Used<'static> {
    let (provider, model) = model.split_once('/').expect("provider/model");
    Used::Sent(Sent { provider, model, counted: Some(Usage { input, output }), came: Came::Whole(100) })
}

fn uncounted(model: &'static str, came: Came) -> Used<'static> {
    let (provider, model) = model.split_once('/').expect("provider/model");
    Used::Sent(Sent { provider, model, counted: None, came })
}

/// One request from its beginning to its end.
fn one(ledger: &mut Ledger, rules: &Rules, asked: &str, guess: Guess, used: Used<'_>) -> Result<Told, Refusal> {
    let reserved = ledger.take(rules, vec![key("a")], asked, guess, 0)?;
    Ok(ledger.settle(rules, reserved, used, 0))
}

fn account(ledger: &Ledger, who: &Who) -> Account {
    ledger.accounts().remove(who).expect("an account")
}

fn spent(ledger: &Ledger, name: &str) -> (Pico, Pico) {
    let purse = account(ledger, &key(name)).budget.expect("a budget");
    (purse.spent, purse.reserved)
}

#[test]
fn a_request_is_booked_by_what_its_provider_counted_at_the_price_of_who_answered() {
    let (mut ledger, rules) = (ledger(), rules(&[]));
    one(&mut ledger, &rules, "alias", Guess::sized(9, 9), counted("p/m", 100, 10)).expect("no budget");
    one(&mut ledger, &rules, "alias", Guess::sized(9, 9), counted("p/dear", 1, 0)).expect("no budget");
    let told = one(&mut ledger, &rules, "q/m", Guess::sized(9, 9), counted("q/m", 5, 5)).expect("no budget");
    assert_eq!(told.unpriced.as_deref(), Some("q/m"));
    let told = one(&mut ledger, &rules, "q/m", Guess::sized(9, 9), counted("q/m", 5, 5)).expect("no budget");
    assert_eq!(told.unpriced, None, "it is told once");
    let account = account(&ledger, &key("a"));
    let sums = Sums { requests: 4, unpriced: 2, tokens: Usage { input: 111, output: 20 }, cost: 130 * MICRO };
    assert_eq!(account.sums, sums);
    assert_eq!(account.models["p/m"].cost, 120 * MICRO);
}

#[test]
fn what_was_not_counted_costs_what_came_of_it_or_what_was_estimated() {
    let rules = rules(&[("*", 1, Period::Total)]);
    let cost = |used: Used<'static>| {
        let mut ledger = ledger();
        one(&mut ledger, &rules, "p/m", Guess::sized(10, 500), used).expect("it is let in");
        spent(&ledger, "a").0 / MICRO
    };
    assert_eq!(cost(Used::Unsent), 0);
    assert_eq!(cost(Used::Refused("p", "m")), 0);
    assert_eq!(cost(uncounted("p/m", Came::Whole(40))), 10 + 2 * 10, "four bytes a token");
    assert_eq!(
        cost(uncounted("p/m", Came::Streamed(2560))),
        10 + 2 * 10,
        "256 bytes of events a token, as long as none is known"
    );
    assert_eq!(cost(uncounted("p/m", Came::Nothing)), 10 + 2 * 500, "as was estimated");
}

#[test]
fn how_many_bytes_of_events_make_a_token_is_learned_from_streams_that_were_counted() {
    let (mut ledger, rules) = (ledger(), rules(&[]));
    let whole = |bytes| {
        Used::Sent(Sent {
            provider: "p",
            model: "m",
            counted: Some(Usage { input: 1, output: 10 }),
            came: Came::Streamed(bytes),
        })
    };
    for _ in 0..200 {
        one(&mut ledger, &rules, "p/m", Guess::sized(1, 1), whole(1000)).expect("no budget");
    }
    let before = account(&ledger, &key("a")).sums.tokens.output;
    one(&mut ledger, &rules, "p/m", Guess::sized(1, 1), uncounted("p/m", Came::Streamed(500))).expect("no budget");
    assert_eq!(account(&ledger, &key("a")).sums.tokens.output - before, 5);
}

#[test]
fn a_spent_budget_lets_nobody_in_until_it_renews() {
    let day = 86_400_000;
    let (mut ledger, rules) = (ledger(), rules(&[("a", 100, Period::Day)]));
    let take = |ledger: &mut Ledger, now_ms| ledger.take(&rules, vec![key("a")], "p/m", Guess::sized(0, 0), now_ms);
    let reserved = take(&mut ledger, day + 5).expect("nothing is spent");
    let told = ledger.settle(&rules, reserved, counted("p/m", 100, 0), day + 5);
    assert_eq!(told.standings[0].spent, Some(100 * MICRO));
    let refusal = take(&mut ledger, 2 * day - 1).expect_err("it is spent");
    let budget = Budget { limit: 100, period: Period::Day };
    assert_eq!(refusal, Refusal { who: key("a"), budget, renews_ms: Some(2 * day), under_way: false });
    assert!(take(&mut ledger, day - 1).is_err(), "a clock that was put back gives nothing back");
    take(&mut ledger, 2 * day).expect("another day");
    assert_eq!(ledger.standings(&rules, 2 * day)[0].spent, None, "the alert ends with the period");
    take(&mut ledger, 2 * day).expect("nothing is spent");
    ledger.take(&rules, vec![key("b")], "p/m", Guess::sized(0, 0), 0).expect("who has no budget is let in");
}

#[test]
fn what_is_under_way_is_reserved_and_a_request_that_was_not_sent_gives_it_back() {
    let (mut ledger, rules) = (ledger(), rules(&[("*", 100, Period::Total)]));
    let take = |ledger: &mut Ledger| ledger.take(&rules, vec![Who::Unkeyed], "p/m", Guess::sized(60, 0), 0);
    let (first, second) = (take(&mut ledger).expect("60"), take(&mut ledger).expect("120"));
    let refusal = take(&mut ledger).expect_err("as much is under way");
    assert!(refusal.under_way && refusal.renews_ms.is_none());
    ledger.settle(&rules, first, Used::Unsent, 0);
    let third = take(&mut ledger).expect("60 are free again");
    ledger.settle(&rules, second, counted("p/m", 1, 0), 0);
    ledger.settle(&rules, third, counted("p/m", 1, 0), 0);
    let purse = account(&ledger, &Who::Unkeyed).budget.expect("a budget");
    assert_eq!((purse.spent, purse.reserved), (2 * MICRO, 0));
}

#[test]
fn an_alias_is_expected_to_be_the_dearest_until_something_was_paid_under_it() {
    let (mut ledger, rules) = (ledger(), rules(&[("*", 1_000_000, Period::Total)]));
    let reserved = |ledger: &mut Ledger| {
        let reserved = ledger.take(&rules, vec![key("a")], "fast", Guess::sized(10, 0), 0).expect("it is let in");
        let held = spent(ledger, "a").1;
        ledger.settle(&rules, reserved, counted("p/m", 10, 0), 0);
        held / MICRO
    };
    assert_eq!((reserved(&mut ledger), reserved(&mut ledger)), (150, 10));
}

#[test]
fn other_rules_go_on_with_what_was_spent_in_the_same_period() {
    let (mut ledger, day) = (ledger(), Duration::from_secs(86_400));
    let spend =
        |ledger: &mut Ledger, rules: &Rules| one(ledger, rules, "p/m", Guess::sized(1, 0), counted("p/m", 10, 0));
    spend(&mut ledger, &rules(&[("a", 100, Period::Month)])).expect("it is let in");
    spend(&mut ledger, &rules(&[("a", 15, Period::Month)])).expect("10 of 15 were spent");
    assert!(spend(&mut ledger, &rules(&[("a", 15, Period::Month)])).is_err());
    spend(&mut ledger, &rules(&[("a", 15, Period::Every(day))])).expect("a budget of another period begins anew");
    assert_eq!(spent(&ledger, "a").0, 10 * MICRO);
}

/// Whoever takes a budget out of the configuration, and puts it in again, has not paid for what was spent.
#[test]
fn what_was_spent_is_remembered_while_there_is_no_budget_for_it() {
    let (none, some) = (rules(&[]), rules(&[("a", 100, Period::Month)]));
    let carried = Carried { period: Period::Month, number: 1970 * 12, spent: 60 * MICRO };
    let mut ledger = Ledger::new(BTreeMap::from([(key("a"), carried)]));
    for spent_by_now in [60, 70] {
        one(&mut ledger, &none, "p/m", Guess::sized(0, 0), counted("p/m", 1, 0)).expect("no budget");
        assert_eq!(ledger.carry().0[&key("a")].spent, spent_by_now * MICRO, "it outlives the program");
        one(&mut ledger, &some, "p/m", Guess::sized(0, 0), counted("p/m", 10, 0)).expect("it is let in");
        assert_eq!(spent(&ledger, "a").0, (spent_by_now + 10) * MICRO);
    }
}

#[test]
fn what_was_spent_before_a_restart_counts_in_its_period_alone() {
    let rules = rules(&[("a", 100, Period::Month)]);
    for (number, left) in [(1970 * 12, 40), (1970 * 12 - 1, 100)] {
        let carried = Carried { period: Period::Month, number, spent: 60 * MICRO };
        let mut ledger = Ledger::new(BTreeMap::from([(key("a"), carried)]));
        assert_eq!(ledger.carry().0[&key("a")], carried, "kept until something is heard of it");
        one(&mut ledger, &rules, "p/m", Guess::sized(0, 0), Used::Unsent).expect("it is let in");
        assert_eq!(100 - spent(&ledger, "a").0 / MICRO, left);
    }
}

#[test]
fn tags_and_models_are_told_apart_up_to_a_bound_and_nothing_is_lost_beyond() {
    let (mut ledger, rules) = (ledger(), rules(&[]));
    let names: Vec<String> = (0..MOST_MODELS * 2).map(|n| n.to_string()).collect();
    for n in 0..MOST_TAGS * 2 {
        let whos = vec![key("a"), Who::Tag(n.to_string())];
        let reserved = ledger.take(&rules, whos, "p/m", Guess::sized(1, 1), 0).expect("no budget");
        let sent = Sent { provider: "q", model: &names[n % names.len()], counted: None, came: Came::Nothing };
        ledger.settle(&rules, reserved, Used::Sent(sent), 0);
    }
    let accounts = ledger.accounts();
    assert_eq!(accounts.len(), MOST_TAGS + 2);
    assert_eq!(accounts[&Who::Others].sums.requests as usize, MOST_TAGS);
    let account = &accounts[&key("a")];
    assert_eq!((account.models.len(), account.sums.requests as usize), (MOST_MODELS + 1, MOST_TAGS * 2));
    assert_eq!(account.models.values().map(|sums| sums.requests).sum::<u64>(), account.sums.requests);
}

/// Who calls chooses the tags: strangers' names must not take from one the budget that was written for it.
#[test]
fn a_tag_with_a_budget_of_its_own_keeps_it_however_many_others_came_before() {
    let mut ledger = ledger();
    let own = ("vip".to_owned(), Budget { limit: 10, period: Period::Total });
    let rules = Rules { tag_budgets: vec![own], ..rules(&[]) };
    let mut spend = |tag: &str| {
        let whos = vec![Who::Unkeyed, Who::Tag(tag.to_owned())];
        let reserved = ledger.take(&rules, whos, "p/m", Guess::sized(1, 0), 0)?;
        drop(ledger.settle(&rules, reserved, counted("p/m", 10, 0), 0));
        Ok::<_, Refusal>(())
    };
    (0..MOST_TAGS * 2).for_each(|n| spend(&n.to_string()).expect("no budget"));
    spend("vip").expect("nothing is spent");
    assert_eq!(spend("vip").map_err(|refusal| refusal.who), Err(Who::Tag("vip".to_owned())));
    assert_eq!(ledger.accounts().len(), MOST_TAGS + 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
    /// Whatever comes and ends in whatever order: models add up to their account and tags to their keys, exactly; at rest
    /// nothing is reserved; and no budget is passed by more than the last request let in, and what came to more than was
    /// estimated.
    #[test]
    fn sums_are_exact_and_budgets_hold(
        limit in 1..3000u64,
        steps in proptest::collection::vec((0..3u8, 0..2usize, 0..8usize, (0..200u64, 0..200u64), (0..200u64, 0..200u64)), 1..150),
    ) {
        let rules = rules(&[("*", limit, Period::Total)]);
        let (mut ledger, mut under_way) = (ledger(), Vec::<(Reserved, Pico)>::new());
        let (mut estimated, mut beyond) = ([0; 2], [0; 2]);
        let ends = |usage: (u64, u64)| [
            Used::Unsent, Used::Refused("p", "m"), uncounted("p/m", Came::Nothing), uncounted("q/m", Came::Whole(usage.0)),
            counted("p/m", usage.0, usage.1), counted("p/dear", usage.0, usage.1), uncounted("p/m", Came::Streamed(usage.0 * 9)),
            counted("q/m", usage.0, usage.1),
        ];
        let settle = |ledger: &mut Ledger, beyond: &mut [Pico; 2], (reserved, held): (Reserved, Pico), used: Used<'_>| {
            let who = reserved.whos[0].clone();
            let before = account(ledger, &who).sums.cost;
            ledger.settle(&rules, reserved, used, 0);
            let cost = account(ledger, &who).sums.cost - before;
            beyond[usize::from(who == key("1"))] += cost.saturating_sub(held);
        };
        for (what, who, end, guess, usage) in steps {
            if what < 2 {
                let whos = vec![key(&who.to_string()), Who::Tag("t".to_owned())];
                if let Ok(reserved) = ledger.take(&rules, whos, "p/m", Guess::sized(guess.0, guess.1), 0) {
                    let held = cost(Price::new(1_000_000, 2_000_000), Usage { input: guess.0, output: guess.1 });
                    estimated[who] = held.max(estimated[who]);
                    under_way.push((reserved, held));
                }
            } else if !under_way.is_empty() {
                let one = under_way.swap_remove(end % under_way.len());
                settle(&mut ledger, &mut beyond, one, ends(usage)[end]);
            }
        }
        for one in under_way {
            settle(&mut ledger, &mut beyond, one, ends((3, 4))[4]);
        }
        let accounts = ledger.accounts();
        let mut keys = Sums::default();
        for (who, account) in &accounts {
            let mut models = Sums::default();
            account.models.values().for_each(|sums| models.add(*sums));
            prop_assert_eq!(models, account.sums, "{}", who);
            if let Who::Key(name) = who {
                keys.add(account.sums);
                let at = usize::from(name == "1");
                let purse = account.budget.expect("a budget");
                prop_assert_eq!((purse.spent, purse.reserved), (account.sums.cost, 0));
                prop_assert!(purse.spent <= purse.limit() + estimated[at] + beyond[at]);
            }
        }
        prop_assert_eq!(accounts.get(&Who::Tag("t".to_owned())).map_or(Sums::default(), |account| account.sums), keys);
    }
}
