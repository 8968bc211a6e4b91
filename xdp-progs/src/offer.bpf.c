/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Sends one datagram after the other out of a device, a different flow each time. The kernel runs
 * it on copies of a datagram that it is given (BPF_F_TEST_XDP_LIVE_FRAMES) and uses each copy
 * again, so what is found in one is the datagram of any flow.
 */

#include "xdp.h"

/* What the loader sets, in one piece, so that it does not depend on the order of variables. */
const volatile struct {
	__u32 ifindex;       /* where to send, in the network namespace of whoever runs this */
	__u32 first_client;  /* the source ports are `clients` numbers from this one on */
	__u32 clients;
	__u32 first_service; /* the destination ports, alike */
	__u32 services;
} order;

struct {
	__u64 offered; /* datagrams handed to the device */
	__u32 client;  /* the flow whose turn it is */
	__u32 service;
} progress;

SEC("xdp")
int offer(struct xdp_md *ctx)
{
	struct datagram *d = (void *)(long)ctx->data;
	__u32 client, service, sum;

	if ((void *)d + DATAGRAM > (void *)(long)ctx->data_end)
		return XDP_DROP;
	client = __builtin_bswap16(order.first_client + progress.client);
	service = __builtin_bswap16(order.first_service + progress.service);
	if (++progress.client >= order.clients) {
		progress.client = 0;
		if (++progress.service >= order.services)
			progress.service = 0;
	}
	/* RFC 1624: the new sum is the old one less the old ports plus the new ones. */
	sum = fold((__u16)~d->check + (__u16)~d->src_port + (__u16)~d->dst_port + client + service);
	d->src_port = client;
	d->dst_port = service;
	/* A checksum of zero means none; all ones says the same as a sum. */
	d->check = sum == 0xffff ? 0xffff : ~sum;
	progress.offered++;
	return bpf_redirect(order.ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
