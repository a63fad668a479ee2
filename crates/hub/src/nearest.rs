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

/// Which of `names` may have been meant by a word or by `OWNER/NAME[:FORMAT]`: names that are nearly the same, the sizes
/// of a family, and those of another owner.
pub(crate) fn meant(typed: &str, names: &[String]) -> Vec<String> {
    let lower = typed.to_lowercase();
    let names = || names.iter().filter(|name| **name != typed);
    let mut found: Vec<String> = nearest_names(typed, names(), 3).into_iter().cloned().collect();
    let family = format!("{}:", lower.split(':').next().unwrap_or(&lower));
    let sizes = || names().filter(|name| name.to_lowercase().starts_with(&family)).cloned();
    // A family alone means its sizes; a size that it does not have, those only that are nearly the same.
    let whole = !lower.contains(['/', ':']) && sizes().next().is_some();
    if whole || (found.is_empty() && !lower.contains('/')) {
        found = sizes().collect();
    }
    found.truncate(SIZES);
    if lower.contains('/') {
        let whole = |name: &str| name.split([':', '@']).next().unwrap_or(name).to_lowercase();
        let wanted = whole(&lower);
        if let Some((_, repository)) = wanted.split_once('/') {
            let same =
                |name: &&String| whole(name).split_once('/').is_some_and(|(_, theirs)| theirs == repository);
            let other = |name: &&String| whole(name) != wanted;
            found.extend(names().filter(same).filter(other).cloned());
        }
        found.truncate(3);
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|name| seen.insert(name.clone()));
    found
}

/// Of a family no more are proposed.
const SIZES: usize = 8;

/// The question that ends a message, unless nothing is near.
pub(crate) fn did_you_mean(nearest: &[String]) -> Option<String> {
    (!nearest.is_empty()).then(|| format!("did you mean {}?", nearest.join(" or ")))
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
        let models = ["mini", "qwen3:4b", "qwen3:8b", "Qwen/Qwen3-4B-GGUF:Q4_K_M", "tiny/noise:Q8_0"]
            .map(String::from);
        for (typed, near) in [
            ("miny", "mini"),
            ("qwen3:4", "qwen3:4b qwen3:8b"),
            ("qwen3:70b", "qwen3:4b qwen3:8b"),
            ("qwen3", "qwen3:4b qwen3:8b"),
            ("Qwen3-4B", "qwen3:4b qwen3:8b"),
            ("Qwen/Qwen3-4B-GUFF:Q4_K_M", "Qwen/Qwen3-4B-GGUF:Q4_K_M"),
            ("else/qwen3-4b-gguf", "Qwen/Qwen3-4B-GGUF:Q4_K_M"),
            ("tiny/noise:Q4_0", "tiny/noise:Q8_0"),
            ("tiny/noise:Q8_0", ""),
            ("other/model", ""),
        ] {
            assert_eq!(meant(typed, &models).join(" "), near, "{typed}");
        }
        assert_eq!(nearest_names("save-", ["saver", "save", "sa"].into_iter(), 3), ["saver", "save"]);
    }
}
