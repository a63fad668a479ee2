//! Finding full pages again by what they hold.
//!
//! A page's keys and values depend on every token before it, so a page is known by its parent page and its own
//! [`PAGE`] tokens: a chain of pages is a chain of keys. Both are kept and compared in full; two prefixes whose
//! hashes collide cannot be mistaken for each other. A key names its parent by page number, which is sound because
//! a page cannot be evicted before all its children are.

use sampan_kernels::attention::PAGE;
use std::collections::{BTreeSet, HashMap};

type Key = (u32, [u32; PAGE]);

#[derive(Debug)]
struct Node {
    key: Key,
    children: u32,
    /// When the last reference was given back; `None` while there is one.
    idle_since: Option<u64>,
}

/// The index of published pages, and the order in which idle ones are evicted.
#[derive(Debug)]
pub(super) struct Prefix {
    index: HashMap<Key, u32>,
    nodes: Vec<Option<Node>>,
    /// Idle pages without children: those that may be evicted, by least recent use. A parent is used whenever its
    /// child is, so taking children first never evicts a page before one that is older.
    order: BTreeSet<(u64, u32)>,
    idle: usize,
}

fn key(parent: u32, tokens: &[u32]) -> Option<Key> {
    Some((parent, tokens.try_into().ok()?))
}

impl Prefix {
    pub(super) fn new(pages: usize) -> Prefix {
        let nodes = std::iter::repeat_with(|| None).take(pages).collect();
        Prefix { index: HashMap::new(), nodes, order: BTreeSet::new(), idle: 0 }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle
    }

    pub(super) fn contains(&self, page: u32) -> bool {
        self.nodes[page as usize].is_some()
    }

    pub(super) fn is_idle(&self, page: u32) -> bool {
        self.nodes[page as usize].as_ref().is_some_and(|node| node.idle_since.is_some())
    }

    pub(super) fn get(&self, parent: u32, tokens: &[u32]) -> Option<u32> {
        self.index.get(&key(parent, tokens)?).copied()
    }

    /// Adds a page that is in use. Its parent must be in the index and in use, or a root.
    pub(super) fn insert(&mut self, parent: u32, tokens: &[u32], page: u32) {
        let key = key(parent, tokens).expect("only full pages are published");
        if self.is_page(parent) {
            self.node(parent).children += 1;
        }
        self.nodes[page as usize] = Some(Node { key, children: 0, idle_since: None });
        self.index.insert(key, page);
    }

    /// The page has its first reference again.
    pub(super) fn mark_used(&mut self, page: u32) {
        if let Some(since) = self.node(page).idle_since.take() {
            self.order.remove(&(since, page));
            self.idle -= 1;
        }
    }

    /// The page's last reference was given back at time `now`.
    pub(super) fn mark_idle(&mut self, page: u32, now: u64) {
        let node = self.node(page);
        node.idle_since = Some(now);
        if node.children == 0 {
            self.order.insert((now, page));
        }
        self.idle += 1;
    }

    /// Forgets the least recently used idle page and returns its number.
    pub(super) fn evict(&mut self) -> Option<u32> {
        let (_, page) = self.order.pop_first()?;
        let node = self.nodes[page as usize].take().expect("the order lists published pages");
        self.index.remove(&node.key);
        self.idle -= 1;
        let parent = node.key.0;
        if self.is_page(parent) {
            let node = self.node(parent);
            node.children -= 1;
            if let (0, Some(since)) = (node.children, node.idle_since) {
                self.order.insert((since, parent));
            }
        }
        Some(page)
    }

    /// Whether a parent is a page and not a root, which has a number beyond all pages.
    fn is_page(&self, parent: u32) -> bool {
        (parent as usize) < self.nodes.len()
    }

    fn node(&mut self, page: u32) -> &mut Node {
        self.nodes[page as usize].as_mut().expect("the page is published")
    }

    /// Checks the index against the number of holders of every page.
    pub(super) fn check(&self, refs: &[u32]) -> Result<(), String> {
        let mut children = vec![0; self.nodes.len()];
        let (mut published, mut idle, mut leaves) = (0, 0, 0);
        for (page, node) in self.nodes.iter().enumerate().filter_map(|(i, node)| Some((i, node.as_ref()?))) {
            published += 1;
            if self.index.get(&node.key) != Some(&(page as u32)) {
                return Err(format!("page {page} is published but cannot be found"));
            }
            if node.idle_since.is_some() != (refs[page] == 0) {
                return Err(format!("page {page}: {} holders, idle since {:?}", refs[page], node.idle_since));
            }
            let parent = node.key.0;
            if self.is_page(parent) {
                children[parent as usize] += 1;
                if refs[page] > refs[parent as usize] {
                    return Err(format!("page {page} has more holders than its parent {parent}"));
                }
            }
            if let Some(since) = node.idle_since {
                idle += 1;
                let leaf = node.children == 0;
                leaves += leaf as usize;
                if leaf != self.order.contains(&(since, page as u32)) {
                    return Err(format!("page {page} is idle: wrong place in the order of eviction"));
                }
            }
        }
        let counted = |i: usize| self.nodes[i].as_ref().map_or(0, |node| node.children);
        if let Some(i) = (0..children.len()).find(|&i| children[i] != counted(i)) {
            return Err(format!("page {i}: {} children, {} counted", children[i], counted(i)));
        }
        if (published, idle, leaves) != (self.index.len(), self.idle, self.order.len()) {
            return Err(format!(
                "{published} published, {idle} idle, {leaves} evictable pages; counted otherwise"
            ));
        }
        Ok(())
    }
}
