# SPDX-License-Identifier: MIT OR Apache-2.0
# The Node.js addon (bindings/node), compiled against this build and tested in the node that is there. npm builds it
# for its users (`npm install`), so nothing of it is installed from here.
if WITH_NODE
TESTS += bindings/node/test.sh
endif
NODE_FILES = bindings/node/README.md bindings/node/package.json bindings/node/tsconfig.json bindings/node/build.js \
	bindings/node/index.js bindings/node/index.d.ts bindings/node/event-target.js bindings/node/event-target.d.ts \
	bindings/node/test.sh $(wildcard $(srcdir)/bindings/node/src/*.[ch] $(srcdir)/bindings/node/lib/*.js \
	$(srcdir)/bindings/node/test/*.js $(srcdir)/bindings/node/test/*.ts $(srcdir)/bindings/node/examples/* \
	$(srcdir)/bindings/node/bench/*.js $(srcdir)/bindings/node/bench/*.json $(srcdir)/bindings/node/bench/*.py)
EXTRA_DIST += $(NODE_FILES)

# The same with 1 GiB each way instead of 32 MiB.
.PHONY: check-node-full
check-node-full: all
	ALKNET_NODE_FULL=1 $(MAKE) check TESTS=bindings/node/test.sh
