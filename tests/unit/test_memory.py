"""Memory goes back when many flows have ended, and once more for those that were not quite over."""

from kcpg.app.memory import MANY_FLOWS, Memory, trim


def test_memory_is_given_back_twice_for_so_many_flows():
    given = []
    memory = Memory(lambda: given.append(1))
    many = MANY_FLOWS
    looks = (
        *((0, 0), (many - 1, 0), (many, 1), (many, 2), (many, 2)),
        *((2 * many - 1, 2), (5 * many, 3), (6 * many, 4), (6 * many, 5), (6 * many + 1, 5)),
    )
    for ended, expected in looks:
        memory.inspect(ended)
        assert len(given) == expected, ended


def test_trimming_is_harmless():
    trim()
