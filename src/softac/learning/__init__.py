"""How an agent learns: learners (a module and its Adam state), and the executors of its updates."""
