/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Hands every frame to the AF_XDP socket of the queue it came in on.
 *
 * One object is loaded per port, because interface indexes repeat between network namespaces and
 * a map shared by several ports would mix up their sockets. The frame itself is never looked at:
 * without packet pointers the program loads without CAP_PERFMON.
 */

#include "xdp.h"

/* Queue number -> AF_XDP socket. The loader sets max_entries to the port's queue count. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 1);
} xsks SEC(".maps");

/*
 * A queue without a socket drops: handing the frame to the kernel's stack instead would let
 * traffic go round the emulator uncounted. The driver counts the drop as xdp_drops.
 */
SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
