//! Finding items by name with four bytes each: names are sorted once, then searched by bisection.

/// Positions of named items, sorted by name.
#[derive(Debug, Default)]
pub(crate) struct NameIndex(Vec<u32>);

impl NameIndex {
    /// An index over `count` items, or the two positions that carry the same name (the earlier first).
    pub(crate) fn new<'a>(
        count: usize,
        name: impl Fn(usize) -> &'a str,
    ) -> Result<NameIndex, (usize, usize)> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by(|&a, &b| name(a as usize).cmp(name(b as usize)).then(a.cmp(&b)));
        for pair in order.windows(2) {
            let (a, b) = (pair[0] as usize, pair[1] as usize);
            if name(a) == name(b) {
                return Err((a, b));
            }
        }
        Ok(NameIndex(order))
    }

    /// The position of the item called `wanted`.
    pub(crate) fn find<'a>(&self, wanted: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        let at = self.0.binary_search_by(|&i| name(i as usize).cmp(wanted)).ok()?;
        Some(self.0[at] as usize)
    }
}
