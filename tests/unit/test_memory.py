"""Memory goes back when many flows have ended, once."""

from kcpg.app.memory import MANY_FLOWS, Memory, trim


def test_memory_is_given_back_once_for_so_many_flows():
    given = []
    memory = Memory(lambda: given.append(1))
    many = MANY_FLOWS
    for ended, expected in ((0, 0), (many - 1, 0), (many, 1), (many, 1), (2 * many - 1, 1), (5 * many, 2)):
        memory.look(ended)
        assert len(given) == expected, ended


def test_trimming_is_harmless():
    trim()
