//! Another version of a running lab, made ready beside it.

use std::sync::Arc;

use crate::lab::Lab;
use crate::node::{Node, NodeConfig};
use crate::port::Buffer;
use crate::time::Time;
use crate::vpc::Vpc;

/// What the elements of a lab are programmed with in another version of its file. To make it takes
/// time that grows with the lab, to put it in place little of that; so that a data link under load
/// does not stand still, it is made on another thread than the link's, and put in place node by
/// node, as kube-proxies do it (spec LAB-29).
#[derive(Debug)]
pub struct Snapshot {
    lab: Lab,
    nodes: std::vec::IntoIter<NodeConfig>,
    /// Whether its machines were found to be the running ones.
    fits: bool,
}

/// The elements that one step of a snapshot changes, where they are run.
#[derive(Debug)]
pub struct Programmed<'a, B> {
    /// The node of the number that is asked for.
    pub node: Option<&'a mut Node<B>>,
    /// The VPC.
    pub vpc: Option<&'a mut Vpc<B>>,
}

/// What a node had before. To drop it takes time as well.
#[derive(Debug)]
pub struct Replaced(
    #[expect(dead_code, reason = "only kept to be dropped elsewhere")] Arc<NodeConfig>,
);

/// The lab of a snapshot has other machines than the one that is running (spec LAB-29): the first
/// key of the lab file in which they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` differs from what is running")]
pub struct OtherMachines(pub &'static str);

impl Snapshot {
    /// The nodes of a lab as they are to be.
    #[must_use]
    pub fn new(lab: Lab) -> Self {
        let nodes = (0..lab.nodes.len()).filter_map(|node| NodeConfig::new(&lab, node, 0));
        let nodes = nodes.collect::<Vec<_>>().into_iter();
        Self { lab, nodes, fits: false }
    }

    /// Puts the next node's in place, in the node of the number that `elements` is asked for. With the
    /// last goes the VPC's, and the lab itself, for which the snapshot keeps what was there before.
    /// Nothing comes back once nothing is left to do. Until then no other snapshot may be put in place.
    ///
    /// # Errors
    /// [`OtherMachines`]; nothing has changed.
    pub fn install_next<'n, B: Buffer + 'n>(
        &mut self,
        lab: &mut Lab,
        elements: impl FnOnce(usize) -> Programmed<'n, B>,
        now: Time,
    ) -> Result<Option<Replaced>, OtherMachines> {
        if !self.fits {
            lab.other_machines(&self.lab).map_or(Ok(()), |key| Err(OtherMachines(key)))?;
            self.fits = true;
        }
        let Some(config) = self.nodes.next() else { return Ok(None) };
        let Programmed { node, vpc } = elements(config.index);
        if self.nodes.len() == 0 {
            std::mem::swap(lab, &mut self.lab);
            if let Some(vpc) = vpc {
                vpc.adopt(lab);
            }
        }
        Ok(node.map(|node| Replaced(node.adopt(config, now))))
    }

    /// Puts all of it in place.
    ///
    /// # Errors
    /// As [`Self::install_next`].
    pub fn install<B: Buffer>(
        mut self,
        lab: &mut Lab,
        nodes: &mut [Node<B>],
        vpc: &mut Vpc<B>,
        now: Time,
    ) -> Result<(), OtherMachines> {
        loop {
            let (nodes, vpc) = (&mut *nodes, &mut *vpc);
            let programmed = self.install_next(
                lab,
                move |number| Programmed { node: nodes.get_mut(number), vpc: Some(vpc) },
                now,
            );
            if programmed?.is_none() {
                return Ok(());
            }
        }
    }
}
