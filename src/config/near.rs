//! The name that somebody probably meant.

/// How many characters of a name are compared.
const COMPARED: usize = 64;

/// The name in `known` that is nearest to `wanted` by edit distance; the first of several equally near.
///
/// # Examples
/// ```
/// assert_eq!(sluicegate::config::nearest("bufer_size", ["concurrency", "buffer_size"]), Some("buffer_size"));
/// ```
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|name| distance(wanted, name))
}

/// Those of `known` that are near enough to `wanted` for somebody to have meant them, with how far they are: half of their
/// length at most.
pub fn near<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = (usize, &'a str)> {
    known
        .into_iter()
        .map(move |name| (distance(wanted, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 2)
}

/// How many characters must be put in, taken out, changed or swapped with their neighbour to get from `a` to `b`
/// (optimal string alignment). Looks at the beginnings alone: what was typed may be as long as a request's body.
fn distance(a: &str, b: &str) -> usize {
    let compared = |text: &str| -> Vec<char> { text.chars().take(COMPARED).collect() };
    let (a, b) = (compared(a), compared(b));
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(from != to)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                let swapped: &Vec<usize> = &before_last;
                cost = cost.min(swapped[j - 1] + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        for (a, b, expected) in
            [("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn nothing_is_near_when_nothing_is_known() {
        assert_eq!(nearest("a", []), None);
        assert_eq!(near("a", []).count(), 0);
    }

    #[test]
    fn near_is_at_most_half_of_a_name_away() {
        let found: Vec<_> = near("fats", ["fast", "fastest", "smart", "f"]).collect();
        assert_eq!(found, [(1, "fast"), (3, "fastest")]);
        assert_eq!(near(&"x".repeat(1 << 20), ["x"]).count(), 0, "and a long one takes no longer");
    }
}
