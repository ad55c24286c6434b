return { on_open = os.exit }
