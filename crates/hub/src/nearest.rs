//! Misspelt names.

/// The name closest to `wanted`, if any is close enough to be meant.
pub fn nearest_name<S: AsRef<str>>(wanted: &str, names: impl Iterator<Item = S>) -> Option<S> {
    nearest_names(wanted, names, 1).pop()
}

/// At most `count` names that are close enough to be meant, the closest first.
pub(crate) fn nearest_names<S: AsRef<str>>(
    wanted: &str,
    names: impl Iterator<Item = S>,
    count: usize,
) -> Vec<S> {
    let limit = (wanted.chars().count() / 3).clamp(1, 4);
    let wanted = wanted.to_lowercase();
    let length = |text: &str| text.chars().count();
    let mut close: Vec<_> = names
        .filter(|name| length(name.as_ref()).abs_diff(length(&wanted)) <= limit)
        .map(|name| (distance(&wanted, &name.as_ref().to_lowercase()), name))
        .filter(|(d, _)| *d <= limit)
        .collect();
    close.sort_by_key(|(d, _)| *d);
    close.into_iter().take(count).map(|(_, name)| name).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let mut best =
                (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_find_what_was_meant() {
        let names = ["help", "system", "set", "clear", "retry", "save", "load", "bye"];
        for (typed, meant) in
            [("hlep", Some("help")), ("claer", Some("clear")), ("sytem", Some("system")), ("quux", None)]
        {
            assert_eq!(nearest_name(typed, names.into_iter()), meant, "{typed}");
        }
        for (a, b, d) in [("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), d);
        }
        assert_eq!(nearest_names("save-", ["saver", "save", "sa"].into_iter(), 3), ["saver", "save"]);
    }
}
