//! ARP: the gateway answers for every address (spec VPC-15, VPC-16).

use super::ingress::Entry;
use super::network::Network;
use crate::element::Place;
use crate::port::Buffer;
use crate::verdict::DropReason;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet;

/// The gateway's answer to the ARP message in an untagged `frame`, in a buffer from `blanks`, and
/// where it leaves; `None` where the message is only absorbed.
pub(super) fn answer<B: Buffer>(
    network: &Network,
    frame: &B,
    entry: &Entry,
    blanks: &mut Vec<B>,
) -> Result<Option<(B, Place)>, DropReason> {
    let message = frame.bytes().get(ethernet::HEADER_LEN..).and_then(Arp::parse);
    let message = message.ok_or(DropReason::BadArp)?;
    let asker = entry.sender(network, message.sender_ip);
    if message.operation == Operation::Reply
        || message.sender_ip == message.target_ip
        || network.is_own(asker, message.target_ip)
    {
        return Ok(None);
    }
    let exit = network.exit(entry.end).ok_or(DropReason::OtherHost)?;
    let mut made = blanks.pop().ok_or(DropReason::NoBuffer)?;
    made.reset();
    let bytes = message.answer(network.gateway).frame(message.sender_mac, network.gateway);
    if !made.set_len(bytes.len()) {
        return Err(DropReason::NoBuffer);
    }
    made.bytes_mut().copy_from_slice(&bytes);
    match entry.vid {
        Some(vid) if !ethernet::push(&mut made, vid) => Err(DropReason::NoHeadroom),
        _ => Ok(Some((made, exit.place))),
    }
}
