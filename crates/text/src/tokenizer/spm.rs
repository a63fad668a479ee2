//! Merges for a SentencePiece vocabulary, which stores scores instead.

/// Every way to put a token together from two others, best first: by score, then longer parts first (the order of Hugging
/// Face's converter, on which exact agreement depends).
pub(super) fn merges_from_scores(
    tokens: &[(&str, u32, f32)],
    id_of: &ahash::AHashMap<String, u32>,
) -> Vec<(String, String)> {
    struct Merge<'a> {
        left: &'a str,
        right: &'a str,
        score: f32,
        chars: (usize, usize),
    }
    let mut merges: Vec<Merge<'_>> = Vec::new();
    for &(token, _, score) in tokens {
        let total = token.chars().count();
        let mut local: Vec<(u32, u32, Merge<'_>)> = Vec::new();
        for (before, (cut, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(cut);
            if let (Some(&l), Some(&r)) = (id_of.get(left), id_of.get(right)) {
                local.push((l, r, Merge { left, right, score, chars: (before, total - before) }));
            }
        }
        local.sort_by_key(|(l, r, _)| (*l, *r));
        merges.extend(local.into_iter().map(|(_, _, merge)| merge));
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.chars.cmp(&a.chars)));
    merges.into_iter().map(|m| (m.left.to_owned(), m.right.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_come_first_and_unknown_parts_not_at_all() {
        let tokens = [("ab", 3, -2.0), ("abc", 4, -1.0), ("zz", 5, 0.0)];
        let id_of = [("a", 0), ("b", 1), ("c", 2), ("ab", 3), ("abc", 4)]
            .into_iter()
            .map(|(t, i)| (t.to_owned(), i))
            .collect();
        let merges = merges_from_scores(&tokens, &id_of);
        assert_eq!(merges, [("ab".to_owned(), "c".to_owned()), ("a".to_owned(), "b".to_owned())]);
    }
}
