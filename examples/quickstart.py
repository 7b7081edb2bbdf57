"""From a shop's events to recommendations, in a minute."""

from mkmsr import VSKNN, Compass, Dataset, SimulateOptions, compare, simulate

shop = simulate(SimulateOptions(sessions=1_000, items=300))  # frames of events and of item attributes; pandas works too
data = Dataset.from_frame(
    shop.events, item="item", operation="operation", time="time", user="user", session="session", items=shop.attributes
)

compass = Compass(dim=32).fit(data)
print(compass.recommend([("item-00042", "click"), ("item-00007", "cart")], k=5).to_frame())

neighbours = VSKNN().fit(data)
print(compare([compass, neighbours], data).to_frame())

compass.save("runs/quickstart")  # `mkmsr recommend runs/quickstart --session FILE` takes it from here
