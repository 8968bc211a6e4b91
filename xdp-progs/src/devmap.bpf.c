/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Hands every frame to another device of the namespace, with other MAC addresses: the least that
 * forwards inside the kernel.
 */

#include "xdp.h"

/* The MAC addresses of what leaves: destination, source. The loader sets them. */
const volatile struct {
	__u8 macs[12];
} next_hop;

/* The device to leave by. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 1);
} devices SEC(".maps");

SEC("xdp")
int devmap(struct xdp_md *ctx)
{
	__u8 *frame = (void *)(long)ctx->data;

	if ((void *)frame + sizeof(next_hop) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	for (int i = 0; i < sizeof(next_hop); i++)
		frame[i] = next_hop.macs[i];
	return bpf_redirect_map(&devices, 0, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
