"""Running it: devices, engines, the plan, the executor and what to do when something fails."""
