/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The client's metrics, and whether it has a session. */
#include "connect_private.h"

#include "connect_keep.h"

void alk_front_metrics(const struct alk_front *front, const struct alk_keep *keep,
		       struct alk_metrics_text *out)
{
	struct alk_metrics sum = {0};
	struct alk_keep_info info;

	alk_keep_get_info(keep, &info);
	alk_metrics_add(&sum, alk_board_self, true);
	/* Refusals of what it asked for, which is not counted: a part without its whole. */
	if (sum.total[ALK_M_CHANNELS_TOTAL] == 0)
		sum.total[ALK_M_CHANNELS_REFUSED] = 0;
	alk_metrics_write(out, &sum);
	alk_metrics_build(out);
	alk_metrics_own(out, ALK_OWN_UPTIME,
			(double)(alk_loop_now(front->loop) - front->started) / 1000);
	alk_metrics_own(out, ALK_OWN_CLIENT_UP, info.state == ALK_KEEP_UP);
	alk_metrics_own(out, ALK_OWN_CLIENT_RECONNECTS, (double)info.reconnects);
	alk_metrics_own(out, ALK_OWN_CLIENT_FAILURES, (double)info.failures);
	alk_metrics_own(out, ALK_OWN_CLIENT_WAITING, front->waiting);
	alk_metrics_own(out, ALK_OWN_CLIENT_CHANNELS, alk_client_channels(front->client));
}

const char *alk_front_unready(const struct alk_front *front, const struct alk_keep *keep)
{
	struct alk_keep_info info;

	(void)front;
	alk_keep_get_info(keep, &info);
	return info.state == ALK_KEEP_UP ? NULL : "there is no session";
}
