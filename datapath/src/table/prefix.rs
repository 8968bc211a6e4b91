//! Longest-prefix match.

use std::marker::PhantomData;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An address that prefixes can be taken of.
pub trait PrefixKey: Copy + Eq {
    /// How many bits an address has, at most 128.
    const BITS: u8;

    /// The address in the top [`BITS`](Self::BITS) bits, zeros below.
    fn bits(self) -> u128;

    /// The address whose [`bits`](Self::bits) these are. What is below the top
    /// [`BITS`](Self::BITS) is ignored.
    fn from_bits(bits: u128) -> Self;
}

impl PrefixKey for Ipv4Addr {
    const BITS: u8 = 32;

    fn bits(self) -> u128 {
        u128::from(self.to_bits()) << 96
    }

    fn from_bits(bits: u128) -> Self {
        Self::from_bits((bits >> 96) as u32)
    }
}

impl PrefixKey for Ipv6Addr {
    const BITS: u8 = 128;

    fn bits(self) -> u128 {
        self.to_bits()
    }

    fn from_bits(bits: u128) -> Self {
        Self::from_bits(bits)
    }
}

/// The top `len` bits. `len` is at most 128.
fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

/// Whether the bit after the top `len` ones is set. Past the end none is.
fn bit_after(bits: u128, len: u8) -> bool {
    bits.checked_shl(u32::from(len)).unwrap_or(0) >> 127 == 1
}

/// The root is made first and is nobody's child, so its place also stands for "no child".
const ROOT: usize = 0;
const NONE: usize = 0;

/// A prefix that is stored, or at which the stored ones part ways.
#[derive(Clone, Debug)]
struct Node<T> {
    bits: u128,
    len: u8,
    zero: usize,
    one: usize,
    value: Option<T>,
}

impl<T> Node<T> {
    const fn new(bits: u128, len: u8, value: Option<T>) -> Self {
        Self { bits, len, zero: NONE, one: NONE, value }
    }

    const fn child(&self, one: bool) -> usize {
        if one { self.one } else { self.zero }
    }

    const fn set_child(&mut self, one: bool, node: usize) {
        if one {
            self.one = node;
        } else {
            self.zero = node;
        }
    }
}

/// Values by address prefix, looked up by the longest prefix that covers an address.
///
/// A binary trie with compressed paths: a look-up passes only prefixes that cover the address and
/// the forks between them, and does not allocate. Insertion may. Host bits of a given address are
/// ignored, and a prefix length above [`PrefixKey::BITS`] is read as that.
#[derive(Clone, Debug)]
pub struct PrefixTable<A, T> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    len: usize,
    address: PhantomData<A>,
}

impl<A: PrefixKey, T> Default for PrefixTable<A, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: PrefixKey, T> PrefixTable<A, T> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let root = Node::new(0, 0, None);
        Self { nodes: vec![root], free: Vec::new(), len: 0, address: PhantomData }
    }

    /// Stores `value` for the prefix `addr/len`. Returns the value that was there before, `None`
    /// when there was none.
    pub fn insert(&mut self, addr: A, len: u8, value: T) -> Option<T> {
        let (bits, len) = Self::prefix(addr, len);
        // The node at `at` always covers the prefix to store.
        let mut at = ROOT;
        loop {
            let node = self.nodes.get_mut(at)?;
            if node.len == len {
                let old = node.value.replace(value);
                self.len += usize::from(old.is_none());
                return old;
            }
            let side = bit_after(bits, node.len);
            let below = node.child(side);
            if below == NONE {
                let leaf = self.alloc(Node::new(bits, len, Some(value)));
                self.link(at, side, leaf);
                break;
            }
            let child = self.nodes.get(below)?;
            let (child_bits, child_len) = (child.bits, child.len);
            // At most 128, which is what 128 equal bits give.
            let common = ((bits ^ child_bits).leading_zeros() as u8).min(len).min(child_len);
            if common == child_len {
                at = below;
                continue;
            }
            let above = if common == len {
                self.alloc(Node::new(bits, len, Some(value)))
            } else {
                let leaf = self.alloc(Node::new(bits, len, Some(value)));
                let fork = self.alloc(Node::new(bits & mask(common), common, None));
                self.link(fork, bit_after(bits, common), leaf);
                fork
            };
            self.link(above, bit_after(child_bits, common), below);
            self.link(at, side, above);
            break;
        }
        self.len += 1;
        None
    }

    /// Removes the prefix `addr/len` itself, not what it covers. `None` when it was not there.
    pub fn remove(&mut self, addr: A, len: u8) -> Option<T> {
        let (bits, len) = Self::prefix(addr, len);
        let (mut grandparent, mut parent, mut at) = (ROOT, ROOT, ROOT);
        loop {
            let node = self.nodes.get(at)?;
            if node.len >= len {
                break;
            }
            let below = node.child(bit_after(bits, node.len));
            if below == NONE {
                return None;
            }
            (grandparent, parent, at) = (parent, at, below);
        }
        let node = self.nodes.get_mut(at)?;
        if node.len != len || node.bits != bits {
            return None;
        }
        let value = node.value.take()?;
        self.len -= 1;
        // The node may now be an end or a bend in the path, and if it was an end, so may its
        // parent. Both must go, or a table that changes for long enough would fill with them.
        if self.prune(at, parent) {
            self.prune(parent, grandparent);
        }
        Some(value)
    }

    /// The value of the longest prefix that covers `addr`, and that prefix's length. `None` when
    /// no prefix does.
    #[must_use]
    pub fn lookup(&self, addr: A) -> Option<(&T, u8)> {
        let bits = addr.bits();
        let mut best = None;
        let mut at = ROOT;
        loop {
            let node = self.nodes.get(at)?;
            if (bits ^ node.bits) & mask(node.len) != 0 {
                return best;
            }
            if let Some(value) = &node.value {
                best = Some((value, node.len));
            }
            at = node.child(bit_after(bits, node.len));
            if at == NONE {
                return best;
            }
        }
    }

    /// The value of the prefix `addr/len` itself. `None` when it was not stored.
    #[must_use]
    pub fn get(&self, addr: A, len: u8) -> Option<&T> {
        let (bits, len) = Self::prefix(addr, len);
        let mut at = ROOT;
        loop {
            let node = self.nodes.get(at)?;
            if node.len >= len {
                let found = node.len == len && node.bits == bits;
                return if found { node.value.as_ref() } else { None };
            }
            at = node.child(bit_after(bits, node.len));
            if at == NONE {
                return None;
            }
        }
    }

    /// The prefixes as first address, length and value, by address and then length. Allocates.
    pub fn iter(&self) -> impl Iterator<Item = (A, u8, &T)> {
        let mut path = vec![ROOT];
        std::iter::from_fn(move || {
            loop {
                let node = self.nodes.get(path.pop()?)?;
                // The zeros' side is put last to be taken first.
                path.extend([node.one, node.zero].into_iter().filter(|below| *below != NONE));
                if let Some(value) = &node.value {
                    return Some((A::from_bits(node.bits), node.len, value));
                }
            }
        })
    }

    /// How many prefixes are stored.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no prefix is stored.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn prefix(addr: A, len: u8) -> (u128, u8) {
        let len = len.min(A::BITS);
        (addr.bits() & mask(len), len)
    }

    fn alloc(&mut self, node: Node<T>) -> usize {
        if let Some(at) = self.free.pop()
            && let Some(slot) = self.nodes.get_mut(at)
        {
            *slot = node;
            return at;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn link(&mut self, at: usize, side: bool, below: usize) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.set_child(side, below);
        }
    }

    /// Takes the node at `at` out of the path below `parent` unless it is a fork, holds a value or
    /// is the root. Returns whether it was an end.
    fn prune(&mut self, at: usize, parent: usize) -> bool {
        let Some(node) = self.nodes.get(at) else { return false };
        let fork = node.zero != NONE && node.one != NONE;
        if at == ROOT || fork || node.value.is_some() {
            return false;
        }
        let below = if node.zero == NONE { node.one } else { node.zero };
        let bits = node.bits;
        if let Some(above) = self.nodes.get_mut(parent) {
            above.set_child(bit_after(bits, above.len), below);
        }
        self.free.push(at);
        below == NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing a table for ever must not fill it with nodes that hold and fork nothing.
    #[test]
    fn only_values_and_forks_between_them_take_nodes() {
        let mut table = PrefixTable::new();
        let mut random = 1_u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Sixteen addresses that part at every fourth bit, in nine lengths.
            let addr = Ipv4Addr::from_bits((random >> 28) * 0x1111_1111);
            let len = (random >> 20) as u8 % 9 * 4;
            if random >> 19 & 1 == 0 {
                table.insert(addr, len, ());
            } else {
                table.remove(addr, len);
            }
            let live = table.nodes.len() - table.free.len();
            assert!(live <= 1 + 2 * table.len(), "{live} nodes for {} prefixes", table.len());
        }
        for random in 0..16 * 9 {
            table.remove(Ipv4Addr::from_bits(random / 9 * 0x1111_1111), random as u8 % 9 * 4);
        }
        assert_eq!((table.len(), table.nodes.len() - table.free.len()), (0, 1));
    }
}
