//! The known names closest to a mistyped one.

/// Names shown at most.
const SHOWN: usize = 3;

/// Up to three of `known` that `wrong` is most likely meant to be, the likeliest first.
pub(super) fn nearest<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut ranked: Vec<_> = known.into_iter().map(|name| (distance(wrong, name), name)).collect();
    // Stable, so that equally near names stay in the order of the lab.
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

/// Letters to insert, delete or replace to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, pair), left) in b.iter().zip(row.windows(2)).zip(0..) {
            let [diagonal, above] = *pair else { continue };
            let replaced = diagonal + usize::from(from != *to);
            let here = replaced.min(above + 1).min(next.get(left).map_or(replaced, |n| n + 1));
            next.push(here);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, distance, nearest};

    #[test]
    fn counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn likeliest_first() {
        let known = ["pod:t/a", "pod:t/b", "outside:ext", "node:ecs1/eth0"];
        assert_eq!(nearest("node:esc1/eth0", known).first(), Some(&"node:ecs1/eth0"));
        assert_eq!(nearest("pod:t/c", known)[..2], ["pod:t/a", "pod:t/b"]);
        assert_eq!(nearest("pod:t/c", known).len(), SHOWN);
    }
}
