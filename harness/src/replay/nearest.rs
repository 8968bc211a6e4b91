//! The known names closest to a mistyped one.

/// Names shown at most.
const SHOWN: usize = 3;

/// Up to three of `known` that `wrong` is most likely meant to be, the likeliest first.
pub(super) fn nearest<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut ranked: Vec<_> =
        known.into_iter().map(|name| (strsim::osa_distance(wrong, name), name)).collect();
    // Stable, so that equally near names stay in the order of the lab.
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, nearest};

    #[test]
    fn likeliest_first() {
        let known = ["pod:t/a", "pod:t/b", "outside:ext", "node:ecs1/eth0"];
        assert_eq!(nearest("node:esc1/eth0", known).first(), Some(&"node:ecs1/eth0"));
        assert_eq!(nearest("pod:t/c", known)[..2], ["pod:t/a", "pod:t/b"]);
        assert_eq!(nearest("pod:t/c", known).len(), SHOWN);
    }
}
