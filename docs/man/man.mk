# SPDX-License-Identifier: MIT OR Apache-2.0
# The manual pages are printed by the programs, from the tables that also make --help.

nodist_man_MANS = alknet.1 alknet-admin.1
CLEANFILES += $(nodist_man_MANS)

alknet.1: alknet$(EXEEXT)
	$(AM_V_GEN)./alknet$(EXEEXT) --help-man >$@.tmp && mv $@.tmp $@
alknet-admin.1: alknet-admin$(EXEEXT)
	$(AM_V_GEN)./alknet-admin$(EXEEXT) --help-man >$@.tmp && mv $@.tmp $@
