# SPDX-License-Identifier: MIT OR Apache-2.0
# Completion scripts are printed by the programs, from the tables that also make --help. They get the names and
# go to the places that each shell looks for.

bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/vendor-completions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
nodist_bashcompletion_DATA = completion/alknet completion/alknet-admin
nodist_zshcompletion_DATA = completion/_alknet completion/_alknet-admin
nodist_fishcompletion_DATA = completion/alknet.fish completion/alknet-admin.fish
CLEANFILES += $(nodist_bashcompletion_DATA) $(nodist_zshcompletion_DATA) $(nodist_fishcompletion_DATA)

completion_make = $(MKDIR_P) completion && ./$(1)$(EXEEXT) completion $(2) >$@.tmp && mv $@.tmp $@
completion/alknet: alknet$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet,bash)
completion/alknet-admin: alknet-admin$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet-admin,bash)
completion/_alknet: alknet$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet,zsh)
completion/_alknet-admin: alknet-admin$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet-admin,zsh)
completion/alknet.fish: alknet$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet,fish)
completion/alknet-admin.fish: alknet-admin$(EXEEXT)
	$(AM_V_GEN)$(call completion_make,alknet-admin,fish)
