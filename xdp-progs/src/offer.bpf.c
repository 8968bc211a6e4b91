/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Sends one datagram after the other out of a device, a different flow each time. The kernel runs
 * it on copies of a datagram that it is given (BPF_F_TEST_XDP_LIVE_FRAMES) and uses each copy
 * again, so what is found in one is the datagram of any flow.
 */

#include "xdp.h"

/* What the loader sets, in one piece, so that it does not depend on the order of variables. */
const volatile struct {
	__u32 ifindex;    /* where to send, in the network namespace of whoever runs this */
	__u32 first_port; /* the flows' source ports are `flows` numbers from this one on */
	__u32 flows;
} order;

struct {
	__u64 offered; /* datagrams handed to the device */
	__u32 next;    /* the flow whose turn it is */
} progress;

SEC("xdp")
int offer(struct xdp_md *ctx)
{
	struct headers *d = (void *)(long)ctx->data;
	__u32 port, sum;

	if ((void *)d + DATAGRAM > (void *)(long)ctx->data_end)
		return XDP_DROP;
	port = __builtin_bswap16(order.first_port + progress.next);
	if (++progress.next >= order.flows)
		progress.next = 0;
	/* RFC 1624: the new sum is the old one less the old port plus the new one. */
	sum = fold((__u16)~d->l4[1] + (__u16)~d->src_port + port);
	d->src_port = port;
	/* A checksum of zero means none; all ones says the same as a sum. */
	d->l4[1] = sum == 0xffff ? 0xffff : ~sum;
	progress.offered++;
	return bpf_redirect(order.ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
