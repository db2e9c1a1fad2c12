"""The Vast.ai market on this machine: the same wire format, a seeded market, a settable clock and named faults.

The public face, stable for tests and for `vastai-workflow simulate` (import each from its own module, nothing is
imported here):

* `clock.VirtualClock`, `clock.ScaledClock`: one time for the market and for the program under test.
* `switches.Switches`: every open point of the provider's behaviour, and the pace of the market.
* `world.World(seed=1, now=clock.now, offers=60, ...)`: the market, its machines and accounts; pure and seeded.
* `faults.Fault("drop_reply", operation="create", nth=3)`: one scheduled misbehaviour; `faults.FAULTS` names them all.
* `app.build_app(world, faults=(), clock=clock)`: the HTTP API as a Starlette app. Give it the clock that the world
  reads, else late replies take no time.
* `transport.SimulatedTransport(app)`: an httpx transport that fails as a real socket would.
* `service.running(world, clock, ...)`: the API on a loopback port, with an SSH host per running instance.

What is true, whatever the API says: `world.instances` (not gone yet), `world.everything(account)` (ended ones too),
`world.state()` (the same over HTTP: `GET /__sim__/state`), `world.requests` (a count by operation). Operations, as
faults and counts name them: search create create_bulk launch list show start stop label destroy destroy_bulk set_bulk
reboot recycle bid prepay update deposit logs log_text execute ssh_keys add_ssh_key instance_keys attach detach user
charges invoices secrets templates volumes and the like; `endpoints.OPERATIONS` has them all.
"""
